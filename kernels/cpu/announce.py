"""Says so where a kernel is being compiled that no warm-up has prepared: the picture of an edited scene, a rare composition."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

from ... import progress
from .cache import kernel_cache

QUIET = 0.7
"""Seconds that loading a compiled kernel takes at most; compiling takes longer and is announced."""
_PAUSE = 2.0
"""Seconds without compiling after which it is announced anew."""


class _Here(threading.local):
    depth = 0
    prepared = False


_here = _Here()


def lasting() -> str:
    """How long what is compiled lasts, for a message."""
    return "kept for next time" if kernel_cache() is not None else "again at every start: no folder to keep them in"


@contextmanager
def prepared() -> Iterator[None]:
    """Within it, whoever calls does the talking about what this thread compiles."""
    before = _here.prepared
    _here.prepared = True
    try:
        yield
    finally:
        _here.prepared = before


class Announcer(event.Listener):  # type: ignore[misc]
    """Hears of all that Numba compiles; what a kernel calls is compiled within it, kernels one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[threading.Timer] = set()
        self._began, self._ended = 0.0, -_PAUSE
        self._said = False

    def on_start(self, event: Any) -> None:
        if not _ours(event):
            return
        _here.depth += 1
        if _here.depth > 1 or _here.prepared:
            return
        now = time.monotonic()
        with self._lock:
            if not self._running and now - self._ended > _PAUSE:
                self._began, self._said = now, False
            timer = threading.Timer(max(0.0, self._began + QUIET - now), lambda: self._speak(timer))
            timer.daemon = True
            _here.timer = timer  # type: ignore[attr-defined]
            self._running.add(timer)
        timer.start()

    def on_end(self, event: Any) -> None:
        if not _ours(event):
            return
        _here.depth -= 1
        timer = getattr(_here, "timer", None)
        if _here.depth or timer is None:
            return
        timer.cancel()
        del _here.timer  # type: ignore[attr-defined]
        with self._lock:
            self._running.discard(timer)
            self._ended = time.monotonic()

    def _speak(self, timer: threading.Timer) -> None:
        with self._lock:
            if self._said or timer not in self._running:
                return
            self._said = True
        progress.say(f"compiling CPU kernels for this kind of field (up to a minute; {lasting()})", aside=True)


def _ours(heard: Any) -> bool:
    module: str = heard.data["dispatcher"].py_func.__module__
    return module.startswith(f"{__package__}.")


event.register("numba:compile", Announcer())
