"""Entry point."""

from __future__ import annotations


def main() -> int:
    print("fieldmorph")
    return 0
