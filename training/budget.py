"""How much of a run is done, counted in steps or in seconds of training, and the learning rate that follows from it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

DEFAULT_SECONDS = 300.0


@dataclass
class Budget:
    """Counts steps and training time; ``pause``/``resume`` leave out saving and evaluating."""

    steps: int | None = None
    seconds: float | None = None
    step: int = 0
    spent: float = 0.0
    _since: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            self.seconds = DEFAULT_SECONDS

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        return self.spent + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def pause(self) -> None:
        self.spent = self.elapsed
        self._since = None

    @property
    def progress(self) -> float:
        """Share of the budget used, in [0, 1]. Depends on nothing but the step where the budget is in steps."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps) if self.steps else 1.0
        assert self.seconds is not None
        return min(1.0, self.elapsed / self.seconds)

    @property
    def done(self) -> bool:
        return self.progress >= 1.0


@dataclass(frozen=True)
class RateSchedule:
    """Factor on every learning rate: linear warm-up, constant from there, exponential decay from ``decay_from`` to ``final`` at the end."""

    warmup: int = 0
    decay_from: float = 0.3
    final: float = 0.03

    def factor(self, step: int, progress: float) -> float:
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        share = max(0.0, progress - self.decay_from) / max(1e-9, 1.0 - self.decay_from)
        return warm * math.exp(share * math.log(self.final))
