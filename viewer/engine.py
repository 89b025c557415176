"""Renders on a thread of its own what the window asks for, coarse first; the newest request always wins. No GUI."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..kernels.cancel import CancelFlag, Cancelled
from ..render.camera import Camera
from ..render.types import RenderSettings
from ..representations.field import Field
from .moments import PARTS, moment
from .points import draw_points
from .scheduler import Scheduler, Task
from .shots import GRIDS, Look, Mode, Pixels, Shot, difference, photo_shot, picture_psnr, shade, shoot

Layout = Literal["single", "side", "wipe", "difference"]

PREVIEW_STEPS, PREVIEW_TERMINATION = 0.7, 0.03
"""Steps along a preview's diagonal per voxel of it, and the light below which its rays end. On lego 0.2 dB less than steps of
one voxel without end, in three quarters of the time."""
SHUT_DOWN = 5.0
"""Seconds the thread is given to end."""


@dataclass(frozen=True, eq=False)
class FieldSource:
    field: Field
    settings: RenderSettings
    preview: Field | None = None


@dataclass(frozen=True, eq=False)
class PhotoSource:
    """A photograph, shown where its camera stood."""

    image: NDArray[np.uint8]  # [h, w, 3 or 4]


Source = FieldSource | PhotoSource


@dataclass(frozen=True, eq=False)
class Request:
    """Everything a picture depends on but its look. ``camera`` has the size of the window's view, and the time of dynamic fields."""

    camera: Camera
    sources: tuple[Source, ...]
    mode: Mode = "color"
    layout: Layout = "single"

    @property
    def pixels(self) -> int:
        """Rays of one full picture, all sources together."""
        count = self.camera.width * self.camera.height
        return count if self.layout == "side" else count * max(1, len(self.sources))


@dataclass(frozen=True)
class Comparison:
    """How two sources share the view."""

    wipe: float = 0.5
    """Where the wipe stands, fraction of the width."""
    gain: float = 5.0
    """Factor on differences."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What the window shows: RGBA [h, w, 4], perhaps smaller than the view, and what it took."""

    rgba: Pixels
    shots: tuple[Shot, ...]
    request: Request
    task: Task
    seconds: float
    samples_per_ray: float
    shading: float
    """Seconds that compositing, look and comparison took."""
    psnr: float | None = None
    """Between the two sources, of full pictures."""
    number: int = 0


@dataclass(frozen=True)
class Failure:
    """A picture that could not be made; the sentence is shown in its place."""

    sentence: str


class Engine:
    """Give it requests and looks from any thread; :meth:`take` hands over the newest result."""

    def __init__(self, scheduler: Scheduler | None = None) -> None:
        self.scheduler = scheduler or Scheduler()
        self.paused = False
        self._condition = threading.Condition()
        self._flag = CancelFlag()
        self._request: Request | None = None
        self._look, self._comparison = Look(), Comparison()
        self._restyle = self._closing = self._failed = False
        self._running: Task | None = None
        self._ready: Picture | Failure | None = None
        self._shown: Picture | None = None
        self._count = 0
        self._thread = threading.Thread(target=self._work, name="fieldmorph-view", daemon=True)
        self._thread.start()

    def submit(self, request: Request, *, moving: bool = False) -> None:
        """Make this the picture to render. ``moving``: input is being held, and more requests will follow."""
        with self._condition:
            self._request, self._failed = request, False
            self.scheduler.has_preview = (
                request.mode not in GRIDS
                and request.mode not in PARTS
                and any(isinstance(source, FieldSource) and source.preview is not None for source in request.sources)
            )
            self.scheduler.changed(time.perf_counter(), moving)
            if self._running is not None and not (self._running.moving and moving):
                self._flag.set()
            self._condition.notify_all()

    def released(self) -> None:
        """Nothing is held any more: refine at once."""
        with self._condition:
            self.scheduler.released()
            self._condition.notify_all()

    def restyle(self, look: Look, comparison: Comparison) -> None:
        """Show the same shots differently."""
        with self._condition:
            if (look, comparison) != (self._look, self._comparison):
                self._look, self._comparison, self._restyle = look, comparison, True
                self._condition.notify_all()

    def take(self) -> Picture | Failure | None:
        """The newest result since the last call, or None."""
        with self._condition:
            result, self._ready = self._ready, None
            return result

    def wait(self, seconds: float) -> None:
        """Give the next picture of a moving view, or of the newest request, so long to be there for :meth:`take`."""

        def there() -> bool:
            if self._request is None or self._failed or self.paused or self._closing:
                return True  # none is to be expected
            ready = self._ready
            return isinstance(ready, Picture) and (ready.task.moving or ready.request is self._request)

        with self._condition:
            self._condition.wait_for(there, seconds)

    @property
    def request(self) -> Request | None:
        """The newest request."""
        return self._request

    @property
    def shown(self) -> Picture | None:
        """The newest picture."""
        return self._shown

    @property
    def idle(self) -> bool:
        """Whether the still picture is complete, or nothing can be rendered."""
        with self._condition:
            if self._request is None or self._failed:
                return True
            done = self._running is None and not self._restyle and self.scheduler.progress >= 1.0
            return done and not self.scheduler.is_moving(time.perf_counter())

    def close(self) -> None:
        with self._condition:
            self._closing = True
            self._flag.set()
            self._condition.notify_all()
        self._thread.join(SHUT_DOWN)

    def _work(self) -> None:
        while True:
            with self._condition:
                task = self._next()
                while task is None and not self._restyle and not self._closing:
                    self._condition.wait(self.scheduler.settles_in(time.perf_counter()))
                    task = self._next()
                if self._closing:
                    return
                request, look, comparison = self._request, self._look, self._comparison
                restyle, self._restyle = self._restyle, False
                self._running = task
                self._flag.clear()
            if restyle and self._shown is not None and self._shown.request.mode == look.mode:
                shown = self._shown
                self._publish(compose(shown.request, shown.shots, look, comparison, shown.task, shown.seconds))
            if task is None or request is None:
                continue
            self._render(request, task, look, comparison)

    def _next(self) -> Task | None:
        if self._request is None or self._failed or self.paused:
            return None
        return self.scheduler.next(time.perf_counter(), self._request.pixels)

    def _render(self, request: Request, task: Task, look: Look, comparison: Comparison) -> None:
        begin = time.perf_counter()
        try:
            shots = render_shots(request, task, self._flag)
            shown = self._shown
            if task.sample > 0 and shown is not None and shown.request is request and shown.task.scale == 1.0 and not shown.task.preview:
                shots = tuple(old.with_sample(new) for old, new in zip(shown.shots, shots, strict=True))
            spent = time.perf_counter() - begin
            picture = compose(request, shots, look, comparison, task, spent)
        except Cancelled:
            self._done(None, 0.0, 0)
            return
        except Exception as error:  # whatever went wrong belongs in the window, and the window must go on
            sentence = str(error) if isinstance(error, UserError) else f"rendering failed ({type(error).__name__}: {error})"
            with self._condition:
                self._failed = self._request is request
                self._running, self._ready = None, Failure(sentence)
                self._condition.notify_all()
            return
        size = shots[0].opacity.size * (len(shots) if shots else 1)
        self._publish(picture)
        self._done(task if request is self._request or task.moving else None, spent, size)

    def _done(self, task: Task | None, seconds: float, pixels: int) -> None:
        with self._condition:
            self._running = None
            if task is not None:
                self.scheduler.finished(task, seconds, pixels)

    def _publish(self, picture: Picture) -> None:
        with self._condition:
            self._count += 1
            self._shown = self._ready = replace(picture, number=self._count)
            self._condition.notify_all()


def halton(index: int, base: int) -> float:
    """The ``index``-th number of the low-discrepancy sequence in [0, 1) (Halton 1960)."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        value += share * (index % base)
        index //= base
    return value


def task_camera(camera: Camera, task: Task) -> Camera:
    """A request's camera at a task's resolution, its principal point shifted within a pixel by the task's sample."""
    if task.scale != 1.0:
        camera = camera.resized(max(1, round(camera.width * task.scale)), max(1, round(camera.height * task.scale)))
    if task.sample == 0:
        return camera
    return replace(camera, cx=camera.cx + halton(task.sample, 2) - 0.5, cy=camera.cy + halton(task.sample, 3) - 0.5)


def source_camera(request: Request) -> Camera:
    """What each source of a request is seen by: all of the view, or its part of it side by side."""
    camera = request.camera
    if request.layout == "side" and len(request.sources) > 1:
        return camera.fitted(max(1, camera.width // len(request.sources)), camera.height)
    return camera


def render_shots(request: Request, task: Task, cancel: CancelFlag | None = None) -> tuple[Shot, ...]:
    """What each source of a request shows at a task's quality.

    Raises:
        Cancelled: ``cancel`` was set meanwhile.
    """
    camera = task_camera(source_camera(request), task)
    shots = []
    for source in request.sources:
        if isinstance(source, PhotoSource):
            shots.append(photo_shot(source.image, camera.width, camera.height))
        elif task.preview and source.preview is not None:
            shots.append(shoot(source.preview, camera, preview_settings(source), request.mode, cancel))
        else:
            shots.append(shoot(_seen(source.field, camera.time, request.mode), camera, source.settings, request.mode, cancel))
    return tuple(shots)


def _seen(field: Field, time: float | None, mode: Mode) -> Field:
    """The field that a mode looks at, which stands still; grids of cells belong to the field itself."""
    return field if mode in GRIDS else moment(field, time, mode if mode in PARTS else None)


def preview_settings(source: FieldSource) -> RenderSettings:
    """How a preview is marched: a step of about one voxel and a half, and no light that nobody would notice."""
    grid = getattr(source.preview, "grid", (128,) * 3)
    steps = max(64, round(PREVIEW_STEPS * float(np.linalg.norm(grid))))
    return replace(source.settings, steps=steps, termination=max(source.settings.termination, PREVIEW_TERMINATION))


def compose(request: Request, shots: tuple[Shot, ...], look: Look, comparison: Comparison, task: Task, seconds: float) -> Picture:
    """Shots to the picture in the window; ``seconds``: what rendering them took."""
    begin = time.perf_counter()
    pictures = [shade(shot, look, task.scale) for shot in shots]
    psnr = None
    if len(pictures) == 2 and pictures[0].shape == pictures[1].shape and task.scale == 1.0 and not task.preview:
        psnr = picture_psnr(pictures[0], pictures[1])
    if look.points is not None and request.layout != "difference":
        camera, points = task_camera(source_camera(request), replace(task, sample=0)), look.points
        pictures = [draw_points(picture, shot, camera, points, task.scale) for picture, shot in zip(pictures, shots, strict=True)]
    if len(pictures) == 1 or request.layout == "single":
        shown = pictures[0]
    elif request.layout == "side":
        shown = np.concatenate(pictures, 1)
    elif request.layout == "difference":
        shown = difference(pictures[0], pictures[1], comparison.gain)
    else:
        shown = pictures[0].copy()
        split = round(comparison.wipe * shown.shape[1])
        shown[:, split:] = pictures[1][:, split:]
    rgba = np.ones((*shown.shape[:2], 4), np.float32)
    np.clip(shown, 0.0, 1.0, out=rgba[..., :3])
    costs = [float(shot.cost.mean()) for shot in shots if shot.cost is not None]
    cost = sum(costs) / len(costs) if costs else 0.0
    return Picture(rgba, shots, request, task, seconds, cost, time.perf_counter() - begin, psnr)
