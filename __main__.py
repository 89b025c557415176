"""``python -m fieldmorph`` is the command line."""

from __future__ import annotations

from .scripts.cli import entry

if __name__ == "__main__":
    entry()
