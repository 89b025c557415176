"""The viewer's window: owns the main thread and every call of Dear PyGui, feeds input to the model and shows what the engine rendered."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import UserError
from . import gui, theme
from .controls import Controls
from .dialogs import Dialogs
from .engine import Engine, Failure, Picture
from .entries import Entry
from .files import Files
from .input import Input
from .jobs import Job
from .live import Live
from .model import Model
from .overlays import Overlays
from .panels import PANELS, Panel, TrainingPanel
from .preferences import Preferences, save_preferences
from .previews import Previews
from .scheduler import Scheduler
from .shots import Mode, available_modes, why_not_shown
from .view_area import ViewArea
from .widgets import Widgets, set_text

SIDE = 356
"""Width of the panels, unscaled pixels."""
BARS = 68
"""Height of menu and status line, unscaled pixels."""
LEAST = 480, 360
"""Smallest window, unscaled pixels: the panels and a strip of the view."""
BUSY_FPS, IDLE_FPS = 60.0, 30.0
"""The window is drawn this often while something happens, and otherwise."""
REFRESH = 0.15
"""Seconds between updates of the panels."""
MESSAGE = 6.0
"""Seconds a message stays."""


class Window:
    """``frame()`` draws once and handles what came in; ``run()`` does so until the window is closed."""

    def __init__(self, model: Model, preferences: Preferences | None = None, *, device: str = "cpu", bake_previews: bool = True) -> None:
        self.model, self.preferences, self.device = model, preferences or Preferences(), device
        model.use_preview = self.preferences.use_preview
        self.engine = Engine(Scheduler(fps=self.preferences.fps, samples=self.preferences.samples))
        self.controls = Controls(model, lambda: self.engine.shown)
        self.show_cameras, self.show_box = self.preferences.show_cameras, self.preferences.show_box
        self.fps = 0.0
        self.upload_seconds = self.draw_seconds = 0.0
        """What copying the newest picture and drawing the last frame took."""
        self.jobs: list[Job] = []
        self.view_size = (64, 64)
        self.previews = Previews(self, bake_previews)
        self.files = Files(self)
        self.live: Live | None = None
        self.live_entry: Entry | None = None
        self.live_ended: Callable[[], bool] = lambda: True
        self.edit_crop = True
        """Whether the crop box shows its handles."""
        self.input = Input(self)
        self._later: list[Callable[[], None]] = []
        self.asked = -1
        """Revision of the model that the engine was asked for last."""
        self._asked_size = (0, 0)
        self._last_frame = self._last_refresh = time.perf_counter()
        self.last_event = self._last_frame
        """Clock when something moved last."""
        self._message, self._message_at = "", 0.0
        self.failure = ""
        """Why nothing is shown, or empty."""
        self.displayed: Picture | None = None
        """The picture on the screen, or about to be: drawn with the next frame."""
        self.drawn_at = 0.0
        """Clock when the last frame had been drawn."""
        self._panels_shown = True
        self._moving_frames: list[float] = []
        self._build()

    def _build(self) -> None:
        """Make the window and everything in it."""
        self.scale = gui.ui_scale()
        gui.create_context()
        gui.configure_app(manual_callback_management=True, keyboard_navigation=False)
        theme.bind_font(self.scale)
        theme.bind_theme(self.scale)
        grown = self.scale / self.preferences.scale
        gui.create_viewport(
            title="fieldmorph", width=round(self.preferences.width * grown), height=round(self.preferences.height * grown),
            min_width=round(LEAST[0] * self.scale), min_height=round(LEAST[1] * self.scale),
        )  # fmt: skip
        gui.setup_dearpygui()
        self.widgets = Widgets(self.scale)
        self.dialogs = Dialogs(self)
        self.root = gui.add_window(no_scrollbar=True, no_scroll_with_mouse=True)
        gui.bind_item_theme(self.root, theme.see_through_theme())
        gui.push_container_stack(self.root)
        self._build_menu()
        with gui.group(horizontal=True):
            self.view = ViewArea(self.scale)
            self.side = gui.add_child_window(width=round(SIDE * self.scale), border=False)
        gui.push_container_stack(self.side)
        self.panels: list[Panel] = [panel(self) for panel in PANELS]
        for panel in self.panels:
            panel.place()
        gui.pop_container_stack()
        self.status = gui.add_text("", color=theme.DIM)
        gui.pop_container_stack()
        with gui.handler_registry():
            gui.add_mouse_wheel_handler(callback=lambda s, a, u: self.input.on_wheel(float(a)))
        gui.set_primary_window(self.root, True)
        gui.show_viewport()
        self.overlays = Overlays(self)
        for entry in self.model.entries:
            self.previews.start(entry)

    def _build_menu(self) -> None:
        with gui.menu_bar(parent=self.root):
            with gui.menu(label="File"):
                gui.add_menu_item(label="Open…", shortcut="Ctrl+O", callback=lambda: self.dialogs.open_field())
                gui.add_menu_item(label="Save field as…", shortcut="Ctrl+S", callback=lambda: self.dialogs.save_field())
                gui.add_menu_item(label="Screenshot…", shortcut="Ctrl+P", callback=lambda: self.dialogs.screenshot())
                gui.add_menu_item(label="Quit", shortcut="Ctrl+Q", callback=lambda: gui.stop_dearpygui())
            with gui.menu(label="View"):
                gui.add_menu_item(label="Reset", shortcut="Shift+R", callback=lambda: self.controls.key("R", shift=True))
                gui.add_menu_item(label="Focus the scene", shortcut="F", callback=lambda: self.controls.key("F"))
                gui.add_menu_item(label="Panels", shortcut="Tab", callback=lambda: self.toggle_panels())
            with gui.menu(label="Help"):
                gui.add_menu_item(label="Mouse and keyboard", shortcut="F1", callback=lambda: self.dialogs.help())

    def run(self) -> None:
        """Until the window is closed; Ctrl-C passes through as KeyboardInterrupt, after everything is put away."""
        interrupted = threading.Event()
        main = threading.current_thread() is threading.main_thread()
        # An exception of the signal's own could be raised in a callback of the toolkit's, which swallows it.
        before = signal.signal(signal.SIGINT, lambda *_: interrupted.set()) if main else None
        try:
            while gui.is_dearpygui_running():
                self.frame()
                if interrupted.is_set():
                    raise KeyboardInterrupt
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
            self.close()

    def frame(self) -> None:
        """Draw once, run callbacks, pass input on, ask for what has changed."""
        now = time.perf_counter()
        elapsed, self._last_frame = now - self._last_frame, now
        gui.run_callbacks(gui.get_callback_queue())
        later, self._later = self._later, []
        for call in later:
            call()
        self._fit()
        self.input.update(min(elapsed, 0.1))
        for panel in self.panels:
            panel.tick(now)
        self._request()
        self._receive()
        self._finish_jobs()
        self.overlays.update()
        if now - self._last_refresh > REFRESH:
            self._last_refresh = now
            self._refresh()
        begin = time.perf_counter()
        gui.render_dearpygui_frame()
        self.drawn_at = time.perf_counter()
        self.draw_seconds = self.drawn_at - begin
        self._pace(now)

    def close(self) -> None:
        """End the threads, remember the settings, take the window down."""
        for job in self.jobs:
            job.stop()
        self.engine.close()
        self.preferences.show_cameras, self.preferences.show_box = self.show_cameras, self.show_box
        self.preferences.use_preview = self.model.use_preview
        if gui.is_viewport_ok():
            self.preferences.width, self.preferences.height = gui.get_viewport_width(), gui.get_viewport_height()
            self.preferences.scale = self.scale
        save_preferences(self.preferences)
        for job in self.jobs:
            job.wait(5.0)
        gui.destroy_context()

    def clock(self) -> float:
        """What panels are given as the time of a frame."""
        return self._last_frame

    def later(self, call: Callable[[], None]) -> None:
        """Run something on the GUI's thread before the next frame; from any thread."""
        self._later = [*self._later, call]

    def say(self, text: str) -> None:
        """A message for the status line."""
        self.model.message = text

    def watch(self, live: Live, entry: Entry, ended: Callable[[], bool]) -> None:
        """Show a run while it learns: ``entry``'s field is replaced by newer and newer copies until ``ended``."""
        self.live, self.live_entry, self.live_ended = live, entry, ended
        for panel in self.panels:
            if isinstance(panel, TrainingPanel):
                panel.watch()

    def set_mode(self, mode: Mode) -> None:
        if mode not in available_modes(self.model.entry.field):
            self.say(why_not_shown(self.model.entry.field, mode))
            return
        self.model.look = replace(self.model.look, mode=mode)
        self.model.touch()

    def set_show_cameras(self, on: bool) -> None:
        self.show_cameras = on
        self.overlays.stale = True

    def set_show_box(self, on: bool) -> None:
        self.show_box = on
        self.overlays.stale = True

    def toggle_panels(self) -> None:
        self._panels_shown = not self._panels_shown
        gui.configure_item(self.side, show=self._panels_shown)

    def start(self, job: Job) -> Job:
        """Follow a job: its ``then`` runs on the GUI's thread, its failure goes to the status line."""
        self.jobs.append(job)
        return job

    def _fit(self) -> None:
        """Give the view what the window leaves."""
        margin = 8 * self.scale
        side = (SIDE * self.scale + margin) if self._panels_shown else 0
        width = round(gui.get_viewport_client_width() - side - 2 * margin)
        height = round(gui.get_viewport_client_height() - BARS * self.scale)
        if (width, height) != self.view_size:
            self.view_size = (max(width, 16), max(height, 16))
            self.view.resize(*self.view_size)
            gui.configure_item(self.side, height=self.view_size[1])

    def _request(self) -> None:
        """Ask the engine for what the model wants, where that has changed."""
        self.engine.restyle(self.model.look, self.model.comparison)
        moving = self.controls.moving or self.controls.dragging
        if self.model.revision == self.asked and self.view_size == self._asked_size:
            if not moving:
                self.engine.released()
            return
        self.asked, self._asked_size = self.model.revision, self.view_size
        self.last_event = time.perf_counter()
        try:
            self.engine.submit(self.model.request(*self.view_size), moving=moving)
        except UserError as error:
            self._show_failure(str(error))
            return
        if moving and self.displayed is not None and not self.displayed.task.moving:
            # The view was at rest: its first picture is soon there, and without it this frame would show nothing new.
            self.engine.wait(1.0 / self.engine.scheduler.fps)

    def _receive(self) -> None:
        result = self.engine.take()
        if isinstance(result, Failure):
            self._show_failure(result.sentence)
        elif isinstance(result, Picture):
            if self.failure:
                self.failure = ""
                self.view.say("")
            begin = time.perf_counter()
            self.view.show(result)
            self.displayed = result
            now = time.perf_counter()
            self.upload_seconds = now - begin
            self.engine.scheduler.shown(self.upload_seconds, result.rgba.shape[0] * result.rgba.shape[1])
            if result.task.moving:
                self.last_event = now
                self._moving_frames = [*self._moving_frames[-14:], now]
                first, last = self._moving_frames[0], self._moving_frames[-1]
                if last > first and last - first < 5.0:
                    self.fps = (len(self._moving_frames) - 1) / (last - first)
            else:
                self._moving_frames = []

    def _show_failure(self, sentence: str) -> None:
        self.failure = sentence
        self.view.hide()
        self.view.say("This cannot be shown", sentence)

    def _finish_jobs(self) -> None:
        for job in [job for job in self.jobs if job.done]:
            self.jobs.remove(job)
            if job.failure is not None:
                self.say(job.failure)
            elif not job.stopped and job.then is not None:
                job.then(job)

    def _refresh(self) -> None:
        for panel in self.panels:
            if panel.always or panel.is_open:
                panel.refresh()
        now = time.perf_counter()
        if self.model.message:
            self._message, self._message_at, self.model.message = self.model.message, now, ""
        set_text(self.status, self._message if now - self._message_at < MESSAGE else self._status_line())

    def _status_line(self) -> str:
        picture = self.engine.shown
        if picture is None:
            return "rendering…"
        height, width = picture.rgba.shape[:2]
        parts = [f"{width}×{height}", f"{1000.0 * picture.seconds:.0f} ms", f"{picture.samples_per_ray:.1f} samples/ray"]
        if picture.task.preview:
            parts.append("preview")
        elif picture.task.scale == 1.0:
            parts.append(f"{picture.shots[0].samples} of {self.engine.scheduler.samples} samples")
        if picture.psnr is not None:
            parts.append(f"PSNR {picture.psnr:.2f} dB")
        if self.fps:
            parts.append(f"{self.fps:.0f} fps moving")
        running = [f"{job.name} {100.0 * job.share:.0f} %" for job in self.jobs if not job.done]
        return "   ".join([*parts, *running, "F1: help"])

    def _pace(self, begin: float) -> None:
        """Wait out the frame: drawing more often than anything changes would only take the renderer's time."""
        if self.controls.dragging or self.controls.moving:  # as often as pictures come; each is asked for with the newest input
            self.engine.wait(1.0 / self.engine.scheduler.fps - (time.perf_counter() - begin))
        busy = time.perf_counter() - self.last_event < 0.5 or self.controls.dragging or self.controls.moving
        spare = 1.0 / (BUSY_FPS if busy else IDLE_FPS) - (time.perf_counter() - begin)
        if spare > 0.0:
            time.sleep(spare)


def open_window(entries: Sequence[Entry], preferences: Preferences, device: str) -> Window:
    """A window on open fields.

    Raises:
        UserError: no window can be opened here.
    """
    gui.require_window()
    return Window(Model(list(entries)), preferences, device=device)
