"""Camera path: keyframes, playback, files, video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...render.camera import Camera
from ...render.path_export import LAYOUTS
from .. import gui
from ..jobs import Job
from ..overlay import PATH_COLOR, Line, Projector, frusta_lines, polyline
from ..path_editor import PathEditor, render_video
from ..widgets import set_text
from .panel import Panel


class PathPanel(Panel):
    title: ClassVar[str] = "Camera path"

    def build(self) -> None:
        self.path = PathEditor()
        self._listed = 0
        self._started: float | None = None
        self._job: Job | None = None
        self.list = gui.add_listbox(self._names(), num_items=4, width=-1, callback=lambda s, a, u: self._go())
        self.add, *_ = self.w.buttons(
            ("Add (K)", self._add, "Put a keyframe where the camera is, after the chosen one."),
            ("Set", self._update, "Move the chosen keyframe to where the camera is."),
            ("Delete", self._remove, "Remove the chosen keyframe."),
            primary=True,
        )
        self.w.buttons(
            ("Earlier", lambda: self._move(-1), "Change places with the keyframe before."),
            ("Later", lambda: self._move(1), "Change places with the next keyframe."),
            ("Clear", self._clear, "Remove all keyframes."),
        )
        path = self.path
        self.w.section("Timing")
        self.seconds = self.w.number("Seconds", path.seconds, 0.1, 3600.0, lambda v: self._set("seconds", v), form="%.1f", speed=0.05)
        self.rate = self.w.number("Frames/s", path.fps, 1.0, 120.0, lambda v: self._set("fps", v), form="%.0f", speed=0.2)
        self.loop = self.w.check("Loop", path.loop, lambda v: self._set("loop", v), "The last keyframe leads back to the first.")
        self.play, _ = self.w.buttons(("Play", self._play, "Fly along the path at its speed."), ("Stop", self._stop))
        self.scrub = self.w.slider("Position", 0.0, 0.0, 1.0, self._scrub, "Look at any frame.")
        self.w.section("Path file")
        self.file = self.w.text("File", "camera_path.json", lambda v: None)
        self.layout = self.w.choice("Layout", LAYOUTS, LAYOUTS[0], lambda v: None, "Whose program shall read the file.")
        self.save, self.load = self.w.buttons(
            ("Save path", self._save), ("Load path", self._load, "Ours, nerfstudio's or instant-ngp's; which it is is found out.")
        )
        self.w.section("Film")
        self.width = self.w.whole("Width", path.width, 16, 8192, lambda v: self._set("width", v))
        self.height = self.w.whole("Height", path.height, 16, 8192, lambda v: self._set("height", v))
        self.samples = self.w.whole("Samples", 4, 1, 256, lambda v: None, "Anti-aliasing samples a pixel.")
        self.video = self.w.text("Video", "film.mp4", lambda v: None)
        self.render, _ = self.w.buttons(("Render video", self._render), ("Cancel", self._cancel), primary=True)
        self.bar = gui.add_progress_bar(default_value=0.0, width=-1, show=False)

    def refresh(self) -> None:
        path = self.path
        if self._listed != path.revision:
            self._listed = path.revision
            chosen = self._chosen()
            gui.configure_item(self.list, items=self._names())
            if path.keys:
                gui.set_value(self.list, self._names()[min(chosen or 0, len(path.keys) - 1)])
            for tag, value in (
                (self.seconds, path.seconds),
                (self.rate, path.fps),
                (self.loop, path.loop),
                (self.width, path.width),
                (self.height, path.height),
            ):
                if not gui.is_item_active(tag):
                    gui.set_value(tag, value)
        running = self._job is not None and not self._job.done
        gui.configure_item(self.bar, show=running)
        if running and self._job is not None:
            gui.set_value(self.bar, self._job.share)
            gui.configure_item(self.bar, overlay=self._job.note)

    def tick(self, now: float) -> None:
        if self._started is None:
            return
        elapsed = now - self._started
        if elapsed > self.path.seconds and not self.path.loop:
            self._stop()
            return
        gui.set_value(self.scrub, (elapsed % self.path.seconds) / self.path.seconds)
        self._show(self.path.frame_at(elapsed), moving=True)

    def key(self, name: str, shift: bool) -> bool:
        if name != "K":
            return False
        self._add()
        return True

    def overlay(self, view: Projector) -> list[Line]:
        if not self.path.keys or not self.is_open or self._started is not None:
            return []
        size = 0.05 * self.model.navigator.home.radius
        cameras = [Camera.perspective(self.path.width, self.path.height, key.fov, key.camera_to_world) for key in self.path.keys]
        lines = frusta_lines(view, cameras, size, self._chosen())
        return [*polyline(view, self.path.curve(), PATH_COLOR, 2.0), *lines]

    def _names(self) -> list[str]:
        names = [] if self.path.keys else ["No keyframes yet: K adds the view"]
        for index, key in enumerate(self.path.keys):
            x, y, z = key.camera_to_world[:, 3]
            names.append(f"{index + 1}:  {x:.2f}, {y:.2f}, {z:.2f}   {key.fov:.0f}°")
        return names

    def _chosen(self) -> int | None:
        text = str(gui.get_value(self.list) or "")
        number = text.split(":")[0]
        return int(number) - 1 if number.isdigit() and int(number) <= len(self.path.keys) else None

    def _changed(self, chosen: int | None = None) -> None:
        self.window.overlays.stale = True
        self.refresh()
        if chosen is not None:
            gui.set_value(self.list, self._names()[chosen])

    def _clear(self) -> None:
        self.path.clear()
        self._changed()

    def _add(self) -> None:
        navigator = self.model.navigator
        chosen = self._chosen()
        index = self.path.add(navigator.pose, navigator.fov, self.model.time, at=chosen if chosen is not None and self.is_open else None)
        self._changed(index)
        self.window.say(f"keyframe {index + 1} of {len(self.path.keys)}; the path is in the panel {self.title!r}")

    def _update(self) -> None:
        if (index := self._chosen()) is not None:
            self.path.update(index, self.model.navigator.pose, self.model.navigator.fov, self.model.time)
            self._changed(index)

    def _move(self, by: int) -> None:
        if (index := self._chosen()) is not None:
            self._changed(self.path.move(index, by))

    def _remove(self) -> None:
        if (index := self._chosen()) is not None:
            self.path.remove(index)
            self._changed(min(index, len(self.path.keys) - 1) if self.path.keys else None)

    def _go(self) -> None:
        if (index := self._chosen()) is not None:
            key = self.path.keys[index]
            self._show(Camera.perspective(self.path.width, self.path.height, key.fov, key.camera_to_world, key.time), moving=False)

    def _set(self, name: str, value: float) -> None:
        setattr(self.path, name, value)
        self.path.changed()
        self.window.overlays.stale = True

    def _play(self) -> None:
        if len(self.path.keys) < 2:
            self.window.say("a path needs two keyframes at least; add them with K")
            return
        share = float(gui.get_value(self.scrub))
        self._started = time.perf_counter() - (share * self.path.seconds if share < 0.99 else 0.0)

    def _stop(self) -> None:
        self._started = None
        self.window.controls.moving = False
        self.window.overlays.stale = True

    def _scrub(self, share: float) -> None:
        self._started = None
        self._show(self.path.frame_at(share * self.path.seconds * 0.9999), moving=True)

    def _show(self, camera: Camera | None, *, moving: bool) -> None:
        if camera is None:
            return
        self.model.navigator.set_pose(np.array(camera.camera_to_world), camera.fov)
        if camera.time is not None:
            self.model.time = camera.time
        self.window.controls.moving = moving
        self.model.touch()

    def _save(self) -> None:
        file = Path(gui.get_value(self.file)).expanduser()
        try:
            self.path.save(file, gui.get_value(self.layout))
            self.window.say(f"wrote {file}")
        except UserError as error:
            self.window.say(str(error))

    def _load(self) -> None:
        file = Path(gui.get_value(self.file)).expanduser()
        try:
            self.path.load(file)
        except UserError as error:
            self.window.say(str(error))
            return
        self._changed(0)
        self.window.say("; ".join([f"{len(self.path.keys)} keyframes from {file}", *self.path.notes]))

    def _render(self) -> None:
        file, samples = Path(gui.get_value(self.video)).expanduser(), int(gui.get_value(self.samples))
        if self._job is not None and not self._job.done:
            self.window.say("a video is being rendered already")
            return
        try:
            if not self.path.keys:
                raise UserError("the camera path has no keyframes; add some with K")
            film, request = self.path.film(), self.model.request(self.path.width, self.path.height)
        except UserError as error:
            self.window.say(str(error))
            return
        look, comparison = self.model.look, self.model.comparison

        def work(job: Job) -> None:
            render_video(file, film, request, look, comparison, samples, job.progress, job.cancel)

        self._job = self.window.start(Job("video", work, lambda job: self.window.say(f"wrote {file} ({len(film)} frames)")))

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.stop()
            set_text(self.window.status, "video stopped")
