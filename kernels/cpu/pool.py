"""Runs one kernel on several threads.

The threads are Python's: kernels release the GIL and hand out their own work through an
atomic counter, so a launch costs one wake-up per thread, several launches may run at once
(trainer and viewer), nothing survives a fork, and there is no second OpenMP runtime.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None
_executor_owner = (0, 0)


def threads() -> int:
    """How many threads kernels use: torch's number (``torch.set_num_threads``, ``OMP_NUM_THREADS``)."""
    return max(1, torch.get_num_threads())


def _pool(size: int) -> ThreadPoolExecutor:
    global _executor, _executor_owner
    with _lock:
        owner, width = _executor_owner
        if _executor is None or owner != os.getpid() or width < size:
            # After a fork the child has none of the threads; the old executor is only forgotten, its parent still uses it.
            if _executor is not None and owner == os.getpid():
                _executor.shutdown(wait=False)
            # Twice the width: two callers at once (trainer and viewer) must not wait for each other's threads.
            _executor = ThreadPoolExecutor(2 * size, thread_name_prefix="fieldmorph-kernel")
            _executor_owner = (os.getpid(), size)
        return _executor


def launch(kernel: Callable[..., Any], *arguments: Any, most: int | None = None) -> None:
    """Call ``kernel(*arguments)`` on every thread at once (at most ``most``) and wait for all of them."""
    count = threads() if most is None else max(1, min(threads(), most))
    if count == 1:
        kernel(*arguments)
        return
    others: list[Future[Any]] = []
    while len(others) < count - 1:
        try:
            others.append(_pool(count).submit(kernel, *arguments))
        except RuntimeError:  # another caller has just replaced this pool by a wider one
            continue
    try:
        kernel(*arguments)
    finally:
        for other in others:
            other.result()
