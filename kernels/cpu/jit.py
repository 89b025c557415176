"""How every function of this package is compiled.

``device`` functions are called from other compiled code only.  ``kernel`` functions are
entry points from Python: they release the GIL and are cached on disk.  Parallelism comes
from :mod:`pool`, not from Numba, so there is no threading layer to clash with torch's
OpenMP, with fork, or between the trainer's and the viewer's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core import config

from .cache import kernel_cache
from .closed import ClosedCompiler

FASTMATH = {"contract", "reassoc", "arcp", "nsz", "afn"}
"""No nnan, no ninf: inputs may hold NaN, and comparisons with it must mean what they say."""

TILE = 64
"""Samples evaluated together, feature-major: value f of sample s is ``x[f * TILE + s]``."""


def device(function: Callable[..., Any]) -> Any:
    """Compiled for callers in compiled code, with relaxed arithmetic."""
    return numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")(function)


def exact(function: Callable[..., Any]) -> Any:
    """As :func:`device`, but every operation rounds as PyTorch's float32 does.

    ``fastmath=False`` has to be said: left out, it is inherited from whichever caller is compiled first.
    """
    return numba.njit(nogil=True, fastmath=False, error_model="numpy")(function)


def inlined(function: Callable[..., Any]) -> Any:
    """As :func:`device`, put into its callers: a call copies every array of a NamedTuple argument, some 50 ns."""
    return numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy", forceinline=True)(function)


def exact_inlined(function: Callable[..., Any]) -> Any:
    """As :func:`exact` and :func:`inlined`."""
    return numba.njit(nogil=True, fastmath=False, error_model="numpy", forceinline=True)(function)


def _entry(function: Callable[..., Any], **options: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy", "pipeline_class": ClosedCompiler, **options}
    folder = kernel_cache()
    if folder is None:
        return numba.njit(**options)(function)
    # The locator reads the setting when a function is decorated; other packages keep theirs.
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        config.CACHE_DIR = before


def kernel(function: Callable[..., Any]) -> Any:
    """An entry point from Python: releases the GIL, cached on disk in our own folder."""
    return _entry(function, fastmath=FASTMATH)


def kernel_exact(function: Callable[..., Any]) -> Any:
    """As :func:`kernel`, but every operation rounds as PyTorch's float32 does."""
    return _entry(function, fastmath=False)


OVERLOAD: dict[str, Any] = {"jit_options": {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}, "strict": False}
"""Options of every ``@overload`` of a family's tile functions."""
