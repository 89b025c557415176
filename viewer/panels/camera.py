"""Field of view, up axis, training cameras, speed."""

from __future__ import annotations

from typing import ClassVar

from .. import gui
from ..navigation import LEAST_FOV, MOST_FOV
from ..widgets import set_text
from .panel import Panel

UP_AXES = {
    "scene": None,
    "+X": (1.0, 0.0, 0.0),
    "+Y": (0.0, 1.0, 0.0),
    "+Z": (0.0, 0.0, 1.0),
    "-Y": (0.0, -1.0, 0.0),
    "-Z": (0.0, 0.0, -1.0),
}


class CameraPanel(Panel):
    title: ClassVar[str] = "Camera"

    def build(self) -> None:
        navigator = self.model.navigator
        self.fov = self.w.slider(
            "Field of view", navigator.fov, LEAST_FOV, MOST_FOV, self._fov, "Vertical, degrees (keys Page Up and Page Down).", "%.0f°"
        )
        self.lock = self.w.check("Lock the up axis", navigator.up_locked, self._lock, "Off: the view rolls freely (trackball).")
        self.up = self.w.choice("Up", list(UP_AXES), "scene", self._up)
        self.speed = self.w.number("Fly speed", navigator.speed, 1e-3, 1e3, self._speed, "World units a second (+ and - while flying).")
        self.view = self.w.value("View", "", "The training camera the view sits at ([ and ] step, { and } first and last).")
        self.w.buttons(
            ("Previous", lambda: self._step(-1), "Training camera before this one (key [)."),
            ("Next", lambda: self._step(1), "Next training camera (key ])."),
            ("Focus", self._focus, "Bring the whole scene into view (key F)."),
            ("Reset", self._reset, "Back to the start (Shift + R)."),
        )

    def refresh(self) -> None:
        navigator = self.model.navigator
        if not gui.is_item_active(self.fov):
            gui.set_value(self.fov, navigator.fov)
        if not gui.is_item_active(self.speed):
            gui.set_value(self.speed, navigator.speed)
        gui.set_value(self.lock, navigator.up_locked)
        index = navigator.view_index
        name = "free" if index is None else f"{index + 1} of {len(navigator.cameras)}  {navigator.cameras[index].name}"
        set_text(self.view, name)

    def _fov(self, value: float) -> None:
        self.model.navigator.set_fov(value)
        self.model.touch()

    def _lock(self, on: bool) -> None:
        navigator = self.model.navigator
        if on:
            navigator.set_up(navigator.up)
        navigator.up_locked = on
        self.model.touch()

    def _up(self, name: str) -> None:
        axis = UP_AXES[name]
        self.model.navigator.set_up(self.model.navigator.home.up if axis is None else axis)
        self.model.touch()

    def _speed(self, value: float) -> None:
        self.model.navigator.speed = value

    def _step(self, by: int) -> None:
        self.window.controls.key("[" if by < 0 else "]")

    def _focus(self) -> None:
        self.window.controls.key("F")

    def _reset(self) -> None:
        self.window.controls.key("R", shift=True)
