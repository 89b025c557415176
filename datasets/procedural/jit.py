"""How the ray tracer is compiled: as the CPU kernels are, but kept in a folder named after its own sources.

Numba notices only changes of a function's own file; hashing all of ours keeps stale code from being read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

from ...kernels.cpu.cache import kernel_cache
from ...kernels.cpu.jit import FASTMATH, device

__all__ = ["device", "kernel"]


@cache
def _folder() -> Path | None:
    parent = kernel_cache()
    if parent is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return parent / f"scene-{digest.hexdigest()[:16]}"


def kernel(function: Callable[..., Any]) -> Any:
    """An entry point from Python: releases the GIL, cached on disk where that is possible."""
    folder = _folder()
    options = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
    if folder is None:
        return numba.njit(**options)(function)
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        return numba.njit(**options, cache=True)(function)
    finally:
        config.CACHE_DIR = before
