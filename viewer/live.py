"""A run that is looked at while it learns: copies of its field for the viewer, its curves, pause and stop. No GUI.

The training thread calls it after every step, its clock paused (see training/trainer.py).  The viewer never
touches the field that is being trained: it gets copies, made between two steps and only when it asks for one.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

from ..representations.field import Field
from ..training import StepStats, Trainer
from ..training.metrics import mse_to_psnr

SHARE = 0.04
"""Most of the training time that copies may take."""
LEAST = 0.5
"""Seconds between copies, at least."""
POINTS = 600
"""Points a curve keeps; older ones are thinned."""
SMOOTH = 0.95


class Live:
    """A training callback on one side, what the viewer asks on the other."""

    def __init__(self) -> None:
        self.paused = False
        self.steps: list[float] = []
        self.losses: list[float] = []
        self.psnrs: list[float] = []
        self.progress = 0.0
        self.step = 0
        self.stage = ""
        """What a run that goes through stages is at."""
        self.rate = 0.0
        """Training steps per second."""
        self._smooth: tuple[float, float] | None = None
        self._every = 1
        self._lock = threading.Lock()
        self._copy: Field | None = None
        self._wanted = threading.Event()
        self._first = threading.Event()
        self._stopping = False
        self._next_copy = 0.0
        self._since: tuple[float, int] | None = None

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        """After each step, on the training thread."""
        self._record(stats)
        now = time.perf_counter()
        last = self._stopping or trainer.budget.done
        if last or not self._first.is_set() or (self._wanted.is_set() and now >= self._next_copy):
            self._wanted.clear()
            fresh = still_copy(trainer.field)
            spent = time.perf_counter() - now
            self._next_copy = now + max(LEAST, spent / SHARE)
            with self._lock:
                self._copy = fresh
            self._first.set()
        while self.paused and not self._stopping:
            self._since = None
            if self._wanted.wait(0.05):
                self._wanted.clear()
        if self._stopping:
            trainer.stop = True

    def _record(self, stats: StepStats) -> None:
        if stats.stage != self.stage:  # another loss: nothing to go on from
            self.stage, self._smooth = stats.stage, None
        loss, mse = self._smooth or (stats.loss, stats.mse)
        self._smooth = (SMOOTH * loss + (1.0 - SMOOTH) * stats.loss, SMOOTH * mse + (1.0 - SMOOTH) * stats.mse)
        self.step, self.progress = stats.step, stats.progress
        now = time.perf_counter()
        if self._since is None or now - self._since[0] > 5.0:
            if self._since is not None:
                self.rate = (stats.step - self._since[1]) / (now - self._since[0])
            self._since = (now, stats.step)
        if stats.step % self._every:
            return
        steps, losses = [*self.steps, float(stats.step)], [*self.losses, self._smooth[0]]
        psnrs = [*self.psnrs, mse_to_psnr(self._smooth[1])]
        if len(steps) > POINTS:
            steps, losses, psnrs = steps[::2], losses[::2], psnrs[::2]
            self._every *= 2
        self.steps, self.losses, self.psnrs = steps, losses, psnrs

    def want(self) -> None:
        """Ask for a fresh copy, as soon as that costs little."""
        self._wanted.set()

    def take(self) -> Field | None:
        """A copy that was not taken yet, or None."""
        with self._lock:
            found, self._copy = self._copy, None
            return found

    def first(self, ended: Callable[[], bool], poll: float = 0.1) -> Field | None:
        """Wait for the first copy; None where the run has ended without one."""
        while not self._first.wait(poll):
            if ended():
                break
        return self.take()

    def stop(self) -> None:
        """Finish the step, save and end."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        return self._stopping


def still_copy(field: Field) -> Field:
    """A copy of a field that nobody trains; metadata is shared."""
    memo: dict[int, Any] = {id(field.metadata): field.metadata}
    fresh: Field = copy.deepcopy(field, memo)
    fresh.requires_grad_(False)
    for parameter in fresh.parameters():
        parameter.grad = None
    return fresh


class Watched:
    """Work on a thread of its own that a :class:`Live` looks into, e.g. a training run."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name="fieldmorph-train", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # told to whoever waits
            self.error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> Any:
        """The work's result; raises what it raised. Ctrl-C gets through."""
        while self._thread.is_alive():
            self._thread.join(0.2)
        if self.error is not None:
            raise self.error
        return self.result
