"""Render mode, background, exposure, and the renderer's own settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from .. import gui
from ..jobs import Job
from ..points import points_of
from ..shots import BACKGROUNDS, MODE_NAMES, TONES, available_modes
from .panel import Panel


class DisplayPanel(Panel):
    title: ClassVar[str] = "Display"
    open_at_start: ClassVar[bool] = True

    def build(self) -> None:
        look = self.model.look
        self._entry = self.model.entry
        self._reading: Job | None = None
        self.mode = self.w.choice("Mode", self._modes(), MODE_NAMES[look.mode], self._mode, "What the view shows (keys 1 to 9).")
        self.background = self.w.choice(
            "Background", [*BACKGROUNDS, "checker", "learned"], look.background, lambda v: self._look(background=v)
        )
        self.exposure = self.w.slider(
            "Exposure", look.exposure, -5.0, 5.0, lambda v: self._look(exposure=v), "Stops (keys B and Shift+B).", "%+.1f"
        )
        self.tone = self.w.choice("Tone", TONES, look.tone, lambda v: self._look(tone=v), "filmic rolls bright light off.")
        with gui.tree_node(label="Ray marching"):
            settings = self.model.entry.settings
            self.near = self.w.number(
                "Near", settings.near, 0.0, 4.0, lambda v: self._march(near=v), "Nothing nearer is seen; half box sides."
            )
            self.far = self.w.number("Far", 20.0, 0.01, 20.0, lambda v: self._march(far=v if v < 20.0 else None), "Nothing beyond is seen.")
            self.steps = self.w.whole(
                "Steps", settings.steps, 16, 8192, lambda v: self._march(steps=v), "Samples along the box's diagonal."
            )
            self.stop = self.w.number(
                "Stop below", settings.termination, 0.0, 0.5, lambda v: self._march(termination=v),
                "A ray ends when less light than this passes on.", "%.4f", 0.0005,
            )  # fmt: skip
            self.w.button("As the field says", self._as_field)
        self.w.check(
            "Training cameras", self.window.show_cameras, self.window.set_show_cameras, "Draw where the photographs were taken from."
        )
        self.points = self.w.check(
            "Sparse points", look.points is not None, self._points,
            "What structure from motion found, where the dataset's transforms.json names a ply_file_path.",
        )  # fmt: skip
        self.w.check("Scene box", self.window.show_box, self.window.set_show_box)

    def refresh(self) -> None:
        look = self.model.look
        if self.model.entry is not self._entry:
            self._entry = self.model.entry
            gui.configure_item(self.mode, items=self._modes())
        gui.set_value(self.points, look.points is not None or (self._reading is not None and not self._reading.done))
        for tag, value in ((self.mode, MODE_NAMES[look.mode]), (self.background, look.background), (self.exposure, look.exposure)):
            if gui.get_value(tag) != value and not gui.is_item_active(tag):
                gui.set_value(tag, value)

    def _modes(self) -> list[str]:
        return [MODE_NAMES[mode] for mode in available_modes(self.model.entry.field)]

    def _mode(self, name: str) -> None:
        self.window.set_mode(next(mode for mode, label in MODE_NAMES.items() if label == name))

    def _look(self, **changes: Any) -> None:
        self.model.look = replace(self.model.look, **changes)

    def _points(self, on: bool) -> None:
        if self._reading is not None:
            self._reading.stop()
        if not on:
            self.model.show_points(None)
            return
        entry = self.model.entry

        def ready(job: Job) -> None:
            if entry is self.model.entry:
                self.model.show_points(job.result)

        # What is wrong with them goes to the status line, as with every job.
        self._reading = self.window.start(Job("sparse points", lambda job: points_of(entry.data, entry.name), ready))

    def _march(self, **changes: Any) -> None:
        self.model.marching = replace(self.model.marching, **changes)
        self.model.touch()

    def _as_field(self) -> None:
        self.model.marching = type(self.model.marching)()
        settings = self.model.entry.settings
        for tag, value in ((self.near, settings.near), (self.far, 20.0), (self.steps, settings.steps), (self.stop, settings.termination)):
            gui.set_value(tag, value)
        self.model.touch()
