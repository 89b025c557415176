"""A run that is learning: curves, pause, stop; its newest field goes to the view."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .. import gui, theme
from ..live import Live
from ..widgets import set_text
from .panel import Panel

if TYPE_CHECKING:
    from ..entries import Entry

PATIENCE, LONGEST = 1.0, 10.0
"""Seconds between new fields in the view while nobody moves it: at least, and at most where a picture takes as long to become whole.
Asked for sooner, a slow machine would show nothing but coarse pictures."""


class TrainingPanel(Panel):
    title: ClassVar[str] = "Training"
    always: ClassVar[bool] = True

    def build(self) -> None:
        self._next = 0.0
        self._ended = False
        self.state = self.w.value("State", "no run")
        self.pause, self.stop = self.w.buttons(
            ("Pause (T)", self._pause, "The field stays as it is until the run is resumed."),
            ("Stop", self._stop, "Ends the run, which saves; its field stays open."),
        )
        self.bar = gui.add_progress_bar(default_value=0.0, width=-1)
        self.lines = [self._plot("Loss", theme.BAD), self._plot("PSNR, dB", theme.GOOD)]
        gui.configure_item(self.header, show=self.live is not None)
        if self.live is not None:
            gui.set_value(self.header, True)

    @property
    def live(self) -> Live | None:
        return self.window.live

    @property
    def entry(self) -> Entry | None:
        return self.window.live_entry

    def watch(self) -> None:
        """A run has begun to be looked at."""
        self._ended = False
        gui.configure_item(self.header, show=True)
        gui.set_value(self.header, True)

    def tick(self, now: float) -> None:
        live, entry = self.live, self.entry
        if live is None or entry is None or self._ended:
            return
        fresh = live.take()
        if fresh is not None:
            entry.field = fresh
            if entry is self.model.entry or self.model.layout != "single":
                self.model.touch()
        still = not (self.window.controls.moving or self.window.controls.dragging)
        shown = self.window.displayed
        whole = shown is not None and shown.request is self.window.engine.request and shown.task.scale == 1.0
        if still and now >= self._next + (0.0 if whole else LONGEST - PATIENCE):
            self._next = now + PATIENCE
            live.want()

    def refresh(self) -> None:
        live = self.live
        if live is None:
            return
        self._ended = self.window.live_ended()
        kind = "finished" if self._ended else "stopping" if live.stopping else "paused" if live.paused else "running"
        stage = f", {live.stage}" if live.stage else ""
        set_text(self.state, f"{kind}{stage}, step {live.step:,}" + (f", {live.rate:.1f}/s" if live.rate and kind == "running" else ""))
        gui.set_value(self.bar, live.progress)
        gui.configure_item(self.bar, overlay=f"{100.0 * live.progress:.0f} %")
        gui.configure_item(self.pause, label="Resume (T)" if live.paused else "Pause (T)", show=not self._ended)
        gui.configure_item(self.stop, show=not self._ended)
        if not self.is_open:
            return
        for (series, across, along), values in zip(self.lines, (live.losses, live.psnrs), strict=True):
            gui.set_value(series, [live.steps[: len(values)], values[: len(live.steps)]])
            gui.fit_axis_data(across)
            gui.fit_axis_data(along)

    def key(self, name: str, shift: bool) -> bool:
        if name != "T" or self.live is None:
            return False
        self._pause()
        return True

    def _plot(self, label: str, color: tuple[int, int, int]) -> tuple[int, int, int]:
        with gui.theme() as look, gui.theme_component(gui.mvLineSeries):
            gui.add_theme_color(gui.mvPlotCol_Line, color, category=gui.mvThemeCat_Plots)
        with gui.plot(height=round(120 * self.w.scale), width=-1, no_menus=True, no_mouse_pos=True, no_title=True):
            across = gui.add_plot_axis(gui.mvXAxis)
            with gui.plot_axis(gui.mvYAxis, label=label) as along:
                series = gui.add_line_series([], [])
        gui.bind_item_theme(series, look)
        return int(series), int(across), int(along)

    def _pause(self) -> None:
        if self.live is not None:
            self.live.paused = not self.live.paused
            self.live.want()

    def _stop(self) -> None:
        if self.live is not None:
            self.live.stop()
