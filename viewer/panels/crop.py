"""A box outside which nothing is shown, with handles on the picture."""

from __future__ import annotations

from typing import ClassVar

from .. import gui
from ..model import fitted_box
from .panel import Panel


class CropPanel(Panel):
    title: ClassVar[str] = "Crop"

    def build(self) -> None:
        space = self.model.entry.field.space
        self.on = self.w.check("Show only what lies in a box", self.model.crop is not None, self._switch)
        self.lower = self.w.triple("From", space.lower, lambda v: self._corner(0, v), "Lower corner, world units.")
        self.upper = self.w.triple("To", space.upper, lambda v: self._corner(1, v), "Upper corner, world units.")
        self.w.check("Handles on the picture", self.window.edit_crop, self._handles, "Drag the faces of the box with the mouse.")
        self.w.buttons(
            ("Fit to the content", self._fit, "The smallest box around what the occupancy grid holds."),
            ("Whole scene", self._whole, "The field's own box."),
        )

    def refresh(self) -> None:
        crop = self.model.crop
        gui.set_value(self.on, crop is not None)
        if crop is not None:
            for tag, corner in ((self.lower, crop[0]), (self.upper, crop[1])):
                if not gui.is_item_active(tag):
                    gui.set_value(tag, list(corner))

    def _switch(self, on: bool) -> None:
        if not on:
            self.model.set_crop(None)
            return
        lower, upper = gui.get_value(self.lower), gui.get_value(self.upper)
        self.model.set_crop(((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])))

    def _corner(self, which: int, value: list[float]) -> None:
        if self.model.crop is not None:
            corners = list(self.model.crop)
            corners[which] = (value[0], value[1], value[2])
            self.model.set_crop((corners[0], corners[1]))

    def _handles(self, on: bool) -> None:
        self.window.edit_crop = on
        self.window.overlays.stale = True

    def _fit(self) -> None:
        self.model.set_crop(fitted_box(self.model.entry.field))

    def _whole(self) -> None:
        space = self.model.entry.field.space
        self.model.set_crop((space.lower, space.upper))
