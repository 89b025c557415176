"""The moment of a dynamic scene: a slider, and play. Hidden while the field has no time."""

from __future__ import annotations

from typing import ClassVar

from .. import gui
from ..moments import frame_count
from .panel import Panel

STEPS = 50
"""What a step is where the field does not say how many frames it learned."""
LENGTH = 5.0
"""Seconds a clip is played in at first."""


class TimePanel(Panel):
    title: ClassVar[str] = "Time"
    always: ClassVar[bool] = True
    open_at_start: ClassVar[bool] = True

    def build(self) -> None:
        self._playing: float | None = None
        """Clock of the last frame while playing."""
        self._moved = False
        self.slider = self.w.slider("Moment", 0.0, 0.0, 1.0, self._set, "From the clip's start, 0, to its end, 1.", "%.3f")
        self.length = self.w.number("Seconds", LENGTH, 0.1, 600.0, lambda v: None, "How long playing the whole clip takes.", "%.1f", 0.05)
        self.play, *_ = self.w.buttons(
            ("Play", self.toggle, "Play and hold (key P)."),
            ("Back", lambda: self.step(-1), "The frame before (key ,)."),
            ("On", lambda: self.step(1), "The next frame (key .)."),
        )
        gui.configure_item(self.header, show=self.model.time is not None)

    @property
    def playing(self) -> bool:
        return self._playing is not None

    def refresh(self) -> None:
        time = self.model.time
        gui.configure_item(self.header, show=time is not None)
        if time is None:
            self._playing = None
            return
        if not gui.is_item_active(self.slider):
            gui.set_value(self.slider, time)
        gui.configure_item(self.play, label="Hold" if self.playing else "Play")

    def tick(self, now: float) -> None:
        if self._playing is not None and self.model.time is not None:
            passed, self._playing = now - self._playing, now
            self._go((self.model.time + passed / max(0.1, float(gui.get_value(self.length)))) % 1.0)
            self._moved = True
        elif self._moved:
            self._moved = self.window.controls.moving = False

    def key(self, name: str, shift: bool) -> bool:
        if self.model.time is None or name not in ("P", ",", "."):
            return False
        if name == "P":
            self.toggle()
        else:
            self.step(-1 if name == "," else 1)
        return True

    def toggle(self) -> None:
        if self.playing:
            self._playing = None
        else:
            self._playing = self.window.clock()

    def step(self, by: int) -> None:
        """To a neighbouring frame of the clip."""
        self._playing = None
        last = (frame_count(self.model.entry.field) or STEPS) - 1
        frame = round((self.model.time or 0.0) * last) + by
        self.model.set_time(min(max(frame, 0), last) / last)

    def _set(self, time: float) -> None:
        self._playing = None
        self._go(time)
        self._moved = True

    def _go(self, time: float) -> None:
        self.window.controls.moving = True
        self.model.set_time(time)
