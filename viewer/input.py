"""Mouse and keyboard, handed once a frame to whom they belong: a control, something on the picture, or the camera. On the GUI's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import gui, keys, pointer
from .controls import LEFT, MIDDLE, RIGHT
from .shots import MODES

if TYPE_CHECKING:
    from .window import Window

BUTTONS = (LEFT, RIGHT, MIDDLE)


class Input:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.script: Callable[[float], None] | None = None
        """Acts in place of mouse and keyboard once a frame, told the seconds since the last one; for measurements."""
        self._wheel = 0.0

    def on_wheel(self, notches: float) -> None:
        self._wheel += notches

    def update(self, seconds: float) -> None:
        """Pass on what came in since the last frame, ``seconds`` ago."""
        if self.script is not None:
            self.script(seconds)
            return
        window = self.window
        controls = window.controls
        self._mouse()
        wheel, self._wheel = self._wheel, 0.0
        if wheel and window.view.hovered:
            controls.wheel(wheel)
        if window.widgets.typing() or window.dialogs.is_open:
            controls.hold((), seconds)
            return
        shift, control = keys.shift(), keys.control()
        controls.hold(() if control else keys.held(), seconds, shift)
        for name in keys.struck():
            self._key(name, shift, control)

    def _mouse(self) -> None:
        window = self.window
        controls, overlays = window.controls, window.overlays
        held = any(gui.is_mouse_button_down(button) for button in BUTTONS)
        # Where a button went down and up, frames know; in between, what is dragged follows without their delay.
        mouse_x, mouse_y = pointer.now() if held and (controls.dragging or overlays.holding) else pointer.at_last_frame()
        left, top = window.view.place
        width, height = window.view_size
        x, y = (mouse_x - left) / width, (mouse_y - top) / height
        free = window.view.hovered and not window.dialogs.is_open
        if overlays.mouse(mouse_x - left, mouse_y - top, free):
            return
        if controls.dragging:
            controls.drag(x, y, width / height)
            if not held:
                controls.release()
        elif free:
            if gui.is_mouse_button_double_clicked(LEFT):
                controls.set_focus(x, y)
                return
            for button in BUTTONS:
                if gui.is_mouse_button_clicked(button):
                    controls.press(button, x, y, keys.shift())
                    break

    def _key(self, name: str, shift: bool, control: bool) -> None:
        window = self.window
        window.last_event = time.perf_counter()
        if control:
            actions: dict[str, Callable[[], Any]] = {
                "O": window.dialogs.open_field,
                "S": window.dialogs.save_field,
                "P": window.dialogs.screenshot,
                "Q": gui.stop_dearpygui,
            }
            if name in actions:
                actions[name]()
            elif name in ("Z", "Y"):
                self._offer("Undo" if name == "Z" else "Redo", shift)
        elif name.isdigit():
            if int(name) <= len(MODES):
                window.set_mode(MODES[int(name) - 1])
        elif name == "B":
            look = window.model.look
            window.model.look = replace(look, exposure=min(max(look.exposure + (-0.5 if shift else 0.5), -5.0), 5.0))
        elif name == "Tab":
            window.toggle_panels()
        elif name == "F1":
            window.dialogs.help()
        elif not window.controls.key(name, shift):
            self._offer(name, shift)

    def _offer(self, name: str, shift: bool) -> None:
        """A key for whichever panel knows it."""
        for panel in self.window.panels:
            if panel.key(name, shift):
                break
