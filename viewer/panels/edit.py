"""Delete, keep, recolour, move and duplicate what lies in a box; undo; the field's own parameters stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...errors import UserError
from ...representations.edits import Edit
from .. import gui
from ..editing import Editing, box_region
from ..model import middle_box
from ..widgets import set_text
from .panel import Panel


class EditPanel(Panel):
    title: ClassVar[str] = "Edit"

    def build(self) -> None:
        self.editing = Editing()
        self.on = self.w.check("Choose a region", False, self._choose, "A box with handles on the picture.")
        self.lower = self.w.triple("From", (0.0, 0.0, 0.0), lambda v: self._corner(0, v), "Lower corner, world units.")
        self.upper = self.w.triple("To", (0.0, 0.0, 0.0), lambda v: self._corner(1, v), "Upper corner, world units.")
        self.delete, _ = self.w.buttons(
            ("Delete", lambda: self._apply("delete"), "Nothing is there any more."),
            ("Keep only this", lambda: self._apply("keep"), "Nothing is anywhere else."),
        )
        self.w.section("Colour")
        with self.w.row("New colour"):
            self.color = gui.add_color_edit((48, 160, 255, 255), no_alpha=True, no_inputs=True)
        self.w.buttons(("Recolour", self._recolour, "Another colour; light and shade stay."))
        self.w.section("Place")
        self.by = self.w.triple("Shift", (0.0, 0.0, 0.0), lambda v: None, "World units.")
        self.turn = self.w.number("Turn", 0.0, -180.0, 180.0, lambda v: None, "Degrees about the z axis.", "%.0f°", 0.5)
        self.size = self.w.number("Scale", 1.0, 0.05, 20.0, lambda v: None, form="%.2f")
        self.w.buttons(
            ("Move", lambda: self._place("move"), "Shift, turn and scale what is in the region."),
            ("Duplicate", lambda: self._place("duplicate"), "The same, and leave the original."),
        )
        self.w.section("Edits")
        self.undo, *_ = self.w.buttons(
            ("Undo", self._undo, "Ctrl + Z"), ("Redo", self._redo, "Ctrl + Y"), ("Save as…", self.window.dialogs.save_field)
        )
        self.list = self.w.note("no edits")

    def refresh(self) -> None:
        selection = self.model.selection
        gui.set_value(self.on, selection is not None)
        if selection is not None:
            for tag, corner in ((self.lower, selection[0]), (self.upper, selection[1])):
                if not gui.is_item_active(tag):
                    gui.set_value(tag, list(corner))
        listed = self.editing.listed(self.model.entry)
        set_text(self.list, "\n".join(f"{number}  {line}" for number, line in enumerate(listed, 1)) or "no edits")

    def key(self, name: str, shift: bool) -> bool:
        """Undo and redo reach the panel as the window's Ctrl + Z and Ctrl + Y."""
        if name not in ("Undo", "Redo"):
            return False
        (self._undo if name == "Undo" else self._redo)()
        return True

    def _choose(self, on: bool) -> None:
        self.model.set_selection(middle_box(self.model.entry.field) if on else None)

    def _corner(self, which: int, value: list[float]) -> None:
        if self.model.selection is not None:
            corners = list(self.model.selection)
            corners[which] = (value[0], value[1], value[2])
            self.model.set_selection((corners[0], corners[1]))

    def _apply(self, kind: Any, **more: Any) -> None:
        if self.model.selection is None:
            self.window.say("choose a region first")
            return
        selection = self.model.selection
        self._do(lambda: self.editing.apply(self.model.entry, Edit(kind, box_region(selection), **more)))

    def _recolour(self) -> None:
        r, g, b = (float(value) / 255.0 for value in gui.get_value(self.color)[:3])
        self._apply("recolour", color=(r, g, b))

    def _place(self, kind: str) -> None:
        x, y, z = gui.get_value(self.by)[:3]
        self._apply(kind, by=(x, y, z), degrees=float(gui.get_value(self.turn)), scale=float(gui.get_value(self.size)))

    def _undo(self) -> None:
        self._do(lambda: self.editing.undo(self.model.entry))

    def _redo(self) -> None:
        self._do(lambda: self.editing.redo(self.model.entry))

    def _do(self, change: Callable[[], None]) -> None:
        try:
            change()
        except UserError as error:
            self.window.say(str(error))
            return
        self.model.touch()
        self.window.previews.start(self.model.entry)
