"""How a caller stops a kernel that is running on other threads."""

from __future__ import annotations

import numpy as np


class Cancelled(Exception):
    """The caller asked to stop; what was computed so far is incomplete."""


class CancelFlag:
    """Set from any thread; compiled kernels that were given it return within a few milliseconds.

    Calling it tells whether it is set, so that it serves wherever a function is asked between pieces of work.
    """

    def __init__(self) -> None:
        self.array = np.zeros(1, np.int64)

    def __call__(self) -> bool:
        return self.is_set

    def set(self) -> None:
        self.array[0] = 1

    def clear(self) -> None:
        self.array[0] = 0

    @property
    def is_set(self) -> bool:
        return bool(self.array[0])
