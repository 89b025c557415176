"""The open fields, and what is known about the active one."""

from __future__ import annotations

from typing import ClassVar

from .. import gui
from ..engine import Picture
from ..widgets import set_text
from .panel import Panel


class ScenePanel(Panel):
    title: ClassVar[str] = "Scene"
    open_at_start: ClassVar[bool] = True

    def build(self) -> None:
        self.fields = self.w.choice("Field", self._names(), self.model.entry.name, self._choose, "Which of the open fields the view shows.")
        self.w.buttons(
            ("Open…", self.window.dialogs.open_field, "Open one more field or run (Ctrl + O)."),
            ("Save as…", self.window.dialogs.save_field, "Save the active field (Ctrl + S)."),
            ("Close", self._close, "Close the active field."),
        )
        self.rows = gui.add_group()
        self._shown: list[tuple[str, str]] = []
        self._names_shown = self._names()
        self.w.section("Picture")
        self.picture = self.w.value("Shows", "", "What was rendered, at which resolution.")
        self.cost = self.w.value("Samples/ray", "", "Field evaluations per ray.")
        self.time = self.w.value("Time", "", "Milliseconds: rays rendered + pixels shaded + copied to the screen + window drawn.")
        self.speed = self.w.value("Speed", "", "Frames a second while moving.")
        self.preview = self.w.value(
            "Preview", "", "Baked voxels that stand in for the field while the view moves; never the final picture."
        )
        self.w.check("Use the preview while moving", self.model.use_preview, self._use_preview)

    def refresh(self) -> None:
        names = self._names()
        if names != self._names_shown:
            gui.configure_item(self.fields, items=names)
            self._names_shown = names
        set_text(self.fields, self.model.entry.name)
        facts = self.model.entry.facts()
        if facts != self._shown:
            self._shown = facts
            gui.delete_item(self.rows, children_only=True)
            gui.push_container_stack(self.rows)
            for name, value in facts:
                self.w.value(name, value)
            gui.pop_container_stack()
        self._refresh_speed(self.window.engine.shown)
        set_text(self.preview, self.window.previews.state(self.model.entry))

    def _refresh_speed(self, picture: Picture | None) -> None:
        if picture is None:
            return
        height, width = picture.rgba.shape[:2]
        kind = "preview" if picture.task.preview else "field"
        window = self.window
        phases = (picture.seconds, picture.shading, window.upload_seconds, window.draw_seconds)
        names = ("rays", "shade", "copy", "draw")
        set_text(self.picture, f"{kind}, {width} × {height}")
        set_text(self.cost, f"{picture.samples_per_ray:.1f}")
        set_text(self.time, ", ".join(f"{name} {1000.0 * seconds:.0f}" for name, seconds in zip(names, phases, strict=True)) + " ms")
        set_text(self.speed, f"{window.fps:.0f} fps while moving" if window.fps else "not moved yet")

    def _names(self) -> list[str]:
        return [entry.name for entry in self.model.entries]

    def _choose(self, name: str) -> None:
        self.model.activate(self._names().index(name))

    def _close(self) -> None:
        self.model.remove(self.model.active)

    def _use_preview(self, on: bool) -> None:
        self.model.use_preview = on
        self.model.touch()
