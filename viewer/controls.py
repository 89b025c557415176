"""What mouse and keyboard do to the camera. No GUI: positions are fractions of the view, keys have names.

Left drag turns about the focus (looks around once a move key was used, until the next focus or reset), right or middle
drag and Shift + left drag pan, the wheel zooms, a double click or Shift + click sets the focus.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from .engine import Picture
from .model import Model
from .navigation import LEAST_FOV, MOST_FOV

LEFT, RIGHT, MIDDLE = 0, 1, 2
CLICK = 0.006
"""A press that moves no farther than this fraction of the view is a click."""
ARROW = 0.35
"""Views per second that a held arrow key turns."""

FLIGHT = {
    "W": (0, 0, 1),
    "S": (0, 0, -1),
    "A": (-1, 0, 0),
    "D": (1, 0, 0),
    "E": (0, 1, 0),
    "Space": (0, 1, 0),
    "Q": (0, -1, 0),
    "C": (0, -1, 0),
}
"""Move keys of instant-ngp (Space, C) and nerfstudio (E, Q): right, up, forward."""
TURNS = {"Left": (-1, 0), "Right": (1, 0), "Up": (0, -1), "Down": (0, 1)}


@dataclass
class _Drag:
    button: int
    start: tuple[float, float]
    last: tuple[float, float]
    depth: float | None
    pans: bool
    moved: bool = False


class Controls:
    """Turns input into camera moves; ``changed`` and ``moving`` say what to render. ``picture`` gives the newest picture."""

    def __init__(self, model: Model, picture: Callable[[], Picture | None]) -> None:
        self.model, self.picture = model, picture
        self.first_person = False
        self.moving = False
        """Input is being held: more changes will follow."""
        self._drag: _Drag | None = None

    @property
    def dragging(self) -> bool:
        return self._drag is not None

    def press(self, button: int, x: float, y: float, shift: bool = False) -> None:
        """A button goes down over the view."""
        point = self.model.point_at(x, y, self.picture())
        depth = None if point is None else -float((point - self.model.navigator.position) @ self.model.navigator.rotation[:, 2])
        self._drag = _Drag(button, (x, y), (x, y), depth, button != LEFT or shift)

    def drag(self, x: float, y: float, aspect: float) -> None:
        """The pointer moves while the button is held; ``aspect`` is the view's width / height."""
        drag = self._drag
        if drag is None or (x, y) == drag.last:
            return
        if not drag.moved and max(abs(x - drag.start[0]), abs(y - drag.start[1])) <= CLICK:
            return
        drag.moved = True
        right, down = (x - drag.last[0]) * aspect, y - drag.last[1]
        drag.last = (x, y)
        navigator = self.model.navigator
        if drag.pans:
            navigator.pan(right, down, drag.depth)
        elif self.first_person:
            navigator.look(right, down)
        else:
            navigator.orbit(right, down)
        self._changed()

    def release(self) -> None:
        """The button goes up; where it barely moved with Shift held, the place becomes the focus."""
        drag, self._drag = self._drag, None
        if drag is not None and not drag.moved and drag.pans and drag.button == LEFT:
            self.set_focus(*drag.start)

    def set_focus(self, x: float, y: float) -> bool:
        """Orbit about what is seen at a place; False where nothing is."""
        point = self.model.point_at(x, y, self.picture())
        if point is None:
            self.model.message = "there is nothing under the pointer to look at"
            return False
        self.first_person = False
        self.model.navigator.set_focus(point)
        self.model.touch()
        return True

    def wheel(self, notches: float) -> None:
        navigator = self.model.navigator
        if self.first_person:
            navigator.speed *= 1.2**notches
            self.model.message = f"flying at {navigator.speed:.3g} units per second"
            return
        navigator.dolly(notches)
        self._changed()

    def hold(self, keys: Collection[str], seconds: float, shift: bool = False) -> None:
        """Keys held down for a frame of so many seconds; an empty collection ends the motion."""
        navigator = self.model.navigator
        moves = [FLIGHT[key] for key in keys if key in FLIGHT]
        turns = [TURNS[key] for key in keys if key in TURNS]
        if moves:
            self.first_person = True
            right, up, forward = (max(-1, min(1, sum(axis))) for axis in zip(*moves, strict=True))
            navigator.fly(right, up, forward, seconds, shift)
        if turns:
            right, down = (sum(axis) for axis in zip(*turns, strict=True))
            turn = navigator.look if self.first_person else navigator.orbit
            turn(right * ARROW * seconds, down * ARROW * seconds)
        if moves or turns:
            self._changed()
        elif self._drag is None:
            self.moving = False

    def key(self, name: str, shift: bool = False) -> bool:
        """One stroke of a key with a meaning for the camera; False where it has none."""
        navigator, cameras = self.model.navigator, self.model.navigator.cameras
        if name in ("[", "]"):
            if not cameras:
                self.model.message = "this field recorded no training cameras"
            elif shift:
                navigator.to_view(0 if name == "[" else -1)
            else:
                navigator.step_view(-1 if name == "[" else 1)
        elif name in ("+", "-"):
            if self.first_person:
                navigator.speed *= 1.5 if name == "+" else 1.0 / 1.5
                self.model.message = f"flying at {navigator.speed:.3g} units per second"
                return True
            navigator.dolly(1.0 if name == "+" else -1.0)
        elif name == "F":
            self.first_person = False
            navigator.focus_scene()
        elif name == "R" and shift:
            self.first_person = False
            navigator.reset()
        elif name in ("PageUp", "PageDown"):
            factor = 1.05 if name == "PageDown" else 1.0 / 1.05
            navigator.set_fov(min(max(navigator.fov * factor, LEAST_FOV), MOST_FOV))
        else:
            return False
        self.model.touch()
        return True

    def _changed(self) -> None:
        self.moving = True
        self.model.touch()
