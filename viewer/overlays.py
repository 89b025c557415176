"""Keeps the lines over the picture in step with the model, and lets the mouse take hold of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from . import gui
from .controls import LEFT
from .overlay import (
    BOX_COLOR,
    CROP_COLOR,
    SELECTION_COLOR,
    TEXT_COLOR,
    Handle,
    Label,
    Line,
    Projector,
    axes_lines,
    box_handles,
    box_lines,
    drag_handle,
    frusta_lines,
    repeated,
)

if TYPE_CHECKING:
    from .window import Window

REACH = 11.0
"""Pixels within which the mouse takes a handle."""
WIPE_COLOR, WIPE_SHADE = (255, 255, 255, 230), (20, 22, 26, 110)


class Overlays:
    def __init__(self, window: Window) -> None:
        self.window, self.model = window, window.model
        self.stale = True
        self._drawn: object = None
        self._handles: list[Handle] = []
        self._selecting = False
        """Whether the handles belong to the region to edit, not to the crop box."""
        self._held: Handle | str | None = None
        self._last = (0.0, 0.0)

    def update(self) -> None:
        """Draw anew where anything has changed."""
        model = self.model
        state = (model.revision, self.window.view_size, model.comparison, model.layout, model.selection)
        if state == self._drawn and not self.stale:
            return
        self._drawn, self.stale = state, False
        navigator, (width, height) = model.navigator, self.window.view_size
        names = model.compared
        parts = len(names) if model.layout == "side" else 1
        part = width / parts
        view = Projector(navigator.pose, navigator.fov, round(part), height)
        lines: list[Line] = []
        space = model.entry.field.space
        if self.window.show_box:
            lines += box_lines(view, (space.lower, space.upper), BOX_COLOR)
        if self.window.show_cameras:
            lines += frusta_lines(view, navigator.cameras, 0.06 * navigator.home.radius, navigator.view_index)
        for panel in self.window.panels:
            lines += panel.overlay(view)
        self._handles = []
        self._selecting = model.selection is not None
        if model.selection is not None:
            lines += box_lines(view, model.selection, SELECTION_COLOR, 1.5)
            self._handles = box_handles(view, model.selection, SELECTION_COLOR)
        elif model.crop is not None and self.window.edit_crop:
            lines += box_lines(view, model.crop, CROP_COLOR, 1.5)
            self._handles = box_handles(view, model.crop)
        lines = repeated(lines, parts, part)
        inside = [handle for handle in self._handles if parts == 1 or 0.0 <= handle.place[0] <= part]
        self._handles = [replace(h, place=(h.place[0] + k * part, h.place[1])) for k in range(parts) for h in inside]
        scale = self.window.scale
        axes = axes_lines(navigator.rotation, (width - 44.0 * scale, height - 44.0 * scale), 28.0 * scale)
        labels = [Label((line.end[0] + 3.0 * scale, line.end[1] - 7.0 * scale), name, line.color) for line, name in axes]
        lines += [line for line, _ in axes]
        if model.layout == "wipe":
            x = model.comparison.wipe * width
            lines.append(Line((x, 0.0), (x, float(height)), WIPE_SHADE, 5.0))
            lines.append(Line((x, 0.0), (x, float(height)), WIPE_COLOR, 2.0))
        for number in range(1, parts):
            lines.append(Line((number * part, 0.0), (number * part, float(height)), WIPE_COLOR, 1.0))
        labels += self._names(names, part if parts > 1 else model.comparison.wipe * width)
        self.window.view.draw(lines, self._handles, labels)

    @property
    def holding(self) -> bool:
        """Whether the mouse has taken a handle or the wipe."""
        return self._held is not None

    def mouse(self, x: float, y: float, hovered: bool) -> bool:
        """Pixels of the view. True: the mouse holds a handle or the wipe, and the camera does not move."""
        model, scale = self.model, self.window.scale
        if self._held is not None:
            if not gui.is_mouse_button_down(LEFT):
                self._held = None
                return False
            right, down = x - self._last[0], y - self._last[1]
            self._last = (x, y)
            if self._held == "wipe":
                model.comparison = replace(model.comparison, wipe=min(max(x / self.window.view_size[0], 0.0), 1.0))
            elif isinstance(self._held, Handle) and (right or down):
                self._pull(self._held, right, down)
            return True
        if not hovered or not gui.is_mouse_button_clicked(LEFT):
            return False
        near = [h for h in self._handles if np.hypot(h.place[0] - x, h.place[1] - y) < REACH * scale]
        if near:
            self._held = near[0]
        elif model.layout == "wipe" and abs(x - model.comparison.wipe * self.window.view_size[0]) < REACH * scale:
            self._held = "wipe"
        self._last = (x, y)
        return self._held is not None

    def _pull(self, handle: Handle, right: float, down: float) -> None:
        model = self.model
        if self._selecting and model.selection is not None:
            model.set_selection(drag_handle(model.selection, handle, right, down))
        elif not self._selecting and model.crop is not None:
            model.set_crop(drag_handle(model.crop, handle, right, down))

    def _names(self, names: list[str], apart: float) -> list[Label]:
        """What the parts of a comparison show, so many pixels apart."""
        if self.model.layout not in ("wipe", "side"):
            return []
        margin = 14.0 * self.window.scale
        return [Label((number * apart + margin, margin), name, TEXT_COLOR, boxed=True) for number, name in enumerate(names)]
