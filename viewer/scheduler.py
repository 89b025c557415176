"""What the viewer renders next: coarse and quick while anything moves, then sharper, then smoother. No GUI, no threads.

A *task* is one picture: which field (the preview or the full one), at which fraction of the window's resolution,
and the how-manieth anti-aliasing sample.  The time a task may take is predicted from what pixels cost so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SCALES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.4375, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625)
"""Fractions of the window's resolution; few, so that textures and ray directions are used again."""
SETTLE = 0.12
"""Seconds without input after which the view counts as still."""
DIRECT = 0.25
"""A full picture that takes no longer than this needs no coarse one before it, seconds."""
FIRST_SHARE = 0.6
"""Share of a frame's time that the first picture of a movement may take: that it comes soon matters more than its sharpness."""
SHOW_SHARE = 0.5
"""Most of a frame's time that bringing a moving picture to the screen may take, which large windows would exceed."""
TELLING = 250_000
"""Smaller pictures tell what any copy costs, not what pixels do."""
FIRST_GUESS = 1e-6
"""Seconds a pixel is thought to cost before anything was measured."""


@dataclass(frozen=True)
class Task:
    preview: bool
    """Render the preview field; never the final picture."""
    scale: float
    sample: int = 0
    """Anti-aliasing sample; 0 looks through the pixels' centres."""
    moving: bool = False
    """Rendered while the view moves: worth finishing although it is out of date."""


@dataclass
class Scheduler:
    """Chooses tasks; told of changes, of time spent, and whether a preview exists."""

    fps: float = 30.0
    """Frames per second to hold while moving."""
    samples: int = 16
    """Anti-aliasing samples a still view accumulates."""
    has_preview: bool = False
    _changed: float = -math.inf
    _moving: bool = False
    _done: int = 0
    """Stages of the still view that are finished: 1 the coarse one, 2 the full one, then one per further sample."""
    _first: bool = False
    """The view was still before what has changed."""
    _fresh: bool = False
    """Something changed since the last moving frame was handed out."""
    _show_cost: float = 0.0
    """Seconds a pixel takes from the renderer's memory to the screen's."""
    _cost: dict[bool, float] = field(default_factory=lambda: {False: FIRST_GUESS, True: FIRST_GUESS})

    def changed(self, now: float, moving: bool) -> None:
        """The picture is out of date; ``moving``: more changes are to be expected at once."""
        self._first = moving and (self._first or not self.is_moving(now))
        self._changed, self._moving, self._fresh, self._done = now, moving, True, 0

    def released(self) -> None:
        """Nothing is held any more: the view is still without waiting."""
        self._moving = False

    def is_moving(self, now: float) -> bool:
        return self._moving and now - self._changed < SETTLE

    def next(self, now: float, pixels: int) -> Task | None:
        """What to render now in a window of so many pixels, or None: nothing to do until something changes or settles."""
        if self.is_moving(now):
            if not self._fresh:
                return None
            seconds = (FIRST_SHARE if self._first else 1.0) / self.fps
            self._fresh = self._first = False
            rendered = _affordable(self._cost[self.has_preview] * pixels, seconds)
            return Task(self.has_preview, min(rendered, _affordable(self._show_cost * pixels, SHOW_SHARE / self.fps)), moving=True)
        if self._done == 0:
            seconds = self._cost[False] * pixels
            if seconds > DIRECT:
                coarse = _affordable(seconds, DIRECT / 2.0)
                if self.has_preview and coarse < 0.5:
                    return Task(True, _affordable(self._cost[True] * pixels, DIRECT))
                return Task(False, coarse)
            self._done = 1
        if self._done <= self.samples:
            return Task(False, 1.0, self._done - 1)
        return None

    def finished(self, task: Task, seconds: float, pixels: int) -> None:
        """A task of so many pixels took ``seconds``."""
        if pixels > 0:
            cost = seconds / pixels
            known = self._cost[task.preview]
            # Small pictures have fixed costs that large ones do not; believe a rise less quickly than a fall.
            self._cost[task.preview] = cost if known == FIRST_GUESS else known + (0.3 if cost > known else 0.5) * (cost - known)
        if not task.moving:
            self._done += 1

    def shown(self, seconds: float, pixels: int) -> None:
        """A picture of so many pixels was brought to the screen in ``seconds``."""
        if pixels >= TELLING:
            cost = seconds / pixels
            self._show_cost += (1.0 if self._show_cost == 0.0 else 0.3) * (cost - self._show_cost)

    def settles_in(self, now: float) -> float | None:
        """Seconds until the view counts as still; None where it does already."""
        return max(0.0, SETTLE - (now - self._changed)) if self.is_moving(now) else None

    @property
    def progress(self) -> float:
        """How much of the still picture is there, in [0, 1]."""
        return min(1.0, self._done / (self.samples + 1))


def _affordable(cost: float, seconds: float) -> float:
    """The finest scale at which what costs ``cost`` seconds in full takes no longer than ``seconds``."""
    share = math.sqrt(seconds / max(cost, 1e-12))
    return next((scale for scale in SCALES if scale <= share), SCALES[-1])
