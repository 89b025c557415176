"""A camera path as its author builds it: keyframes, length, and the frames drawn from them. No GUI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from ..kernels.cancel import CancelFlag
from ..render.camera import Camera
from ..render.path_export import export_path
from ..render.path_files import read_path
from ..render.paths import CameraPath
from ..render.splines import Keyframe, Keyframes
from ..render.video import open_video
from .engine import Comparison, Request
from .screenshot import render_request
from .shots import Look

Array = NDArray[np.float64]

MOST_KEYS = 24
"""Keyframes that stand for the frames of a file without any."""


class PathEditor:
    """``revision`` grows with every change. Frames move at constant speed along the arc (see render/splines.py)."""

    def __init__(self) -> None:
        self.keys: list[Keyframe] = []
        self.seconds, self.fps, self.loop = 6.0, 30.0, False
        self.width, self.height = 800, 800
        self.revision = 0
        self.notes: tuple[str, ...] = ()
        """What the reader of a foreign file had to say."""
        self._drawn: tuple[int, CameraPath] | None = None

    def changed(self) -> None:
        self.revision += 1

    def add(self, pose: ArrayLike, fov: float, time: float | None = None, at: int | None = None) -> int:
        """A new keyframe, last or after ``at``; returns its index."""
        index = len(self.keys) if at is None else at + 1
        self.keys.insert(index, Keyframe(np.array(pose, np.float64)[:3].copy(), fov, time))
        self.changed()
        return index

    def update(self, index: int, pose: ArrayLike, fov: float, time: float | None = None) -> None:
        """Put another view in the place of a keyframe."""
        old = self.keys[index]
        pose = np.array(pose, np.float64)[:3].copy()
        self.keys[index] = replace(old, camera_to_world=pose, fov=fov, time=old.time if time is None else time)
        self.changed()

    def remove(self, index: int) -> None:
        del self.keys[index]
        self.changed()

    def move(self, index: int, by: int) -> int:
        """Change places with a neighbour; the new index."""
        other = min(max(index + by, 0), len(self.keys) - 1)
        self.keys[index], self.keys[other] = self.keys[other], self.keys[index]
        self.changed()
        return other

    def clear(self) -> None:
        self.keys = []
        self.changed()

    def film(self) -> CameraPath:
        """The frames, drawn anew only where something has changed."""
        if self._drawn is None or self._drawn[0] != self.revision:
            frames = Keyframes(tuple(self.keys), self.seconds, self.width, self.height, self.loop)
            self._drawn = (self.revision, CameraPath(tuple(frames.sample(self.fps)), self.fps, self.loop, frames))
        return self._drawn[1]

    def frame_at(self, seconds: float) -> Camera | None:
        """The frame shown so long after the start; a loop goes on for ever, an open path stops at its end."""
        film = self.film()
        if not len(film):
            return None
        index = int(seconds * self.fps)
        return film.cameras[index % len(film) if self.loop else min(index, len(film) - 1)]

    def curve(self) -> Array:
        """Points of the path [N, 3], for drawing; closed where it loops."""
        cameras = self.film().cameras
        points = np.array([camera.position for camera in cameras[:: max(1, len(cameras) // 200)]]).reshape(-1, 3)
        return np.concatenate([points, points[:1]]) if self.loop and len(points) else points

    def load(self, path: Path) -> None:
        """Take over a path file of ours, of nerfstudio or of instant-ngp; one without keyframes is thinned to some.

        Raises:
            UserError: it cannot be read.
        """
        film = read_path(path)
        if film.keyframes is not None:
            keys, self.seconds, self.loop = list(film.keyframes.frames), film.keyframes.seconds, film.keyframes.loop
            self.width, self.height = film.keyframes.width, film.keyframes.height
        else:
            chosen = np.unique(np.linspace(0, len(film) - 1, min(len(film), MOST_KEYS)).round().astype(int))
            keys = [Keyframe(np.array(c.camera_to_world), c.fov, c.time) for c in (film.cameras[i] for i in chosen)]
            self.seconds, self.loop = len(film) / film.fps, film.loop
            self.width, self.height = film.cameras[0].width, film.cameras[0].height
        self.keys, self.fps, self.notes = keys, film.fps, film.notes
        self.changed()

    def save(self, path: Path, layout: str = "fieldmorph") -> None:
        """Write the path in one of ``render.path_export.LAYOUTS``.

        Raises:
            UserError: there are no keyframes, or the file cannot be written.
        """
        if not self.keys:
            raise UserError("the camera path has no keyframes; add some with K")
        export_path(path, self.film(), layout)


def render_video(
    path: Path, film: CameraPath, request: Request, look: Look, comparison: Comparison, samples: int,
    progress: Callable[[float, str], None] = lambda share, note: None, cancel: CancelFlag | None = None,
) -> None:  # fmt: skip
    """Write the film of a request's sources along a path as MP4.

    Raises:
        UserError: it cannot be written.
        Cancelled: ``cancel`` was set meanwhile; no file appears.
    """
    with open_video(path, film.fps) as write:
        for index, camera in enumerate(film.cameras):
            progress(index / len(film), f"frame {index + 1} of {len(film)}")
            camera = camera if camera.time is not None else replace(camera, time=request.camera.time)
            picture = render_request(replace(request, camera=camera), look, comparison, samples, cancel=cancel)
            write(np.rint(picture.rgba[..., :3] * 255.0).astype(np.uint8))
