"""Camera paths: what a film flies along. Files: path_files.py; motion through keyframes: splines.py."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, did_you_mean
from ..representations.space import Space
from .camera import Camera, look_at
from .overview import Overview, overview
from .splines import Keyframe, Keyframes

__all__ = ["PATHS", "CameraPath", "camera_path", "path_along", "path_ellipse", "path_orbit", "path_spiral"]

Array = NDArray[np.float64]

PATHS = ("orbit", "spiral", "ellipse", "along")
"""Paths by name."""


@dataclass(frozen=True, eq=False)
class CameraPath:
    """The frames of a film, in order."""

    cameras: tuple[Camera, ...]
    fps: float = 30.0
    loop: bool = False
    """Whether the frame after the last is the first."""
    keyframes: Keyframes | None = None
    """What the frames were drawn from, where an author set keyframes."""
    notes: tuple[str, ...] = ()
    """What the person who made this path should know, e.g. settings of a foreign file that are not used."""

    def __len__(self) -> int:
        return len(self.cameras)

    def fitted(self, width: int, height: int) -> CameraPath:
        """The same views in pictures of another size: the vertical field of view stays, square pixels stay square."""
        return replace(self, cameras=tuple(camera.fitted(width, height) for camera in self.cameras))

    def fraction(self, first: int, last: int | None) -> CameraPath:
        """Frames first..last (exclusive), for splitting work."""
        return replace(self, cameras=self.cameras[first:last])


def camera_path(
    kind: str, cameras: Sequence[Camera], space: Space, *, seconds: float = 6.0, fps: float = 30.0, size: tuple[int, int] | None = None
) -> CameraPath:
    """A path of one of :data:`PATHS` around what ``cameras`` (the training views) saw.

    Args:
        kind: orbit, spiral, ellipse or along; "auto" takes an orbit where the cameras surround the scene, else a spiral.
        size: (width, height) of the pictures; None: that of the cameras.

    Raises:
        UserError: an unknown kind, or ``along`` without cameras.
    """
    seen = overview(cameras, space)
    if size is not None:
        seen = replace(seen, width=size[0], height=size[1])
    if kind == "auto":
        kind = "orbit" if seen.surrounds else "spiral"
    if kind not in PATHS:
        raise UserError(f"there is no camera path called {kind!r}; {did_you_mean(kind, PATHS)}, or name a JSON file")
    if not (seconds > 0.0 and fps > 0.0):
        raise UserError(f"a camera path needs positive seconds and frames per second, got {seconds} and {fps}")
    if kind == "along":
        return path_along(cameras, seen, seconds, fps)
    draw = {"orbit": path_orbit, "spiral": path_spiral, "ellipse": path_ellipse}[kind]
    return CameraPath(tuple(draw(seen, max(1, round(seconds * fps)))), fps, loop=True)


def path_orbit(seen: Overview, count: int) -> list[Camera]:
    """A turntable at the cameras' mean distance and elevation; frame ``count`` would be frame 0 again."""
    turn = 2.0 * np.pi * np.arange(count) / count
    ring = np.cos(turn)[:, None] * seen.heading + np.sin(turn)[:, None] * seen.side
    arms = math.cos(seen.elevation) * ring + math.sin(seen.elevation) * seen.up
    return _looking(seen.centre + seen.radius * arms, seen)


def path_spiral(seen: Overview, count: int) -> list[Camera]:
    """A Lissajous figure in front of the scene, looking at what the cameras look at (after LLFF's render path)."""
    free = seen.surrounds or len(seen.positions) == 0
    if free:
        base = seen.centre + seen.radius * (math.cos(seen.elevation) * seen.heading + math.sin(seen.elevation) * seen.up)
    else:
        # Start from the camera nearest to all others: their mean may be a place nobody photographed from.
        apart = np.linalg.norm(seen.positions[:, None] - seen.positions[None], axis=-1).sum(1)
        base = seen.positions[int(np.argmin(apart))]
    pose = look_at(base, seen.centre, seen.up)
    extent = np.full(3, 0.15 * seen.radius)
    if not free:
        # Stay where cameras stood: within four fifths of their spread along each axis of that view.
        extent = np.clip(np.quantile(np.abs((seen.positions - base) @ pose[:, :3]), 0.8, axis=0), 0.02 * seen.radius, 0.2 * seen.radius)
    turn = 4.0 * np.pi * np.arange(count) / count
    local = np.stack([np.cos(turn), np.sin(turn), np.sin(0.5 * turn)], -1) * extent
    return _looking(base + local @ pose[:, :3].T, seen)


def path_ellipse(seen: Overview, count: int) -> list[Camera]:
    """An ellipse through the ground the cameras covered, at their mean height and constant speed, looking at the centre."""
    if len(seen.positions) < 3:
        return path_orbit(seen, count)
    arms = seen.positions - seen.centre
    flat = np.stack([arms @ seen.heading, arms @ seen.side], -1)
    _, axes = np.linalg.eigh(flat.T @ flat)
    extent = np.maximum(np.quantile(np.abs(flat @ axes), 0.9, axis=0), 0.1 * seen.radius)
    turn = np.linspace(0.0, 2.0 * np.pi, 4096)
    outline = (np.stack([np.cos(turn), np.sin(turn)], -1) * extent) @ axes.T
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=-1))])
    place = np.interp(np.arange(count) / count * travelled[-1], travelled, turn)
    ring = (np.stack([np.cos(place), np.sin(place)], -1) * extent) @ axes.T
    height = float((arms @ seen.up).mean())
    return _looking(seen.centre + ring[:, :1] * seen.heading + ring[:, 1:] * seen.side + height * seen.up, seen)


def path_along(cameras: Sequence[Camera], seen: Overview, seconds: float, fps: float) -> CameraPath:
    """Through the training cameras, smoothed, at constant speed: in the order of their names, or, where that jumps about, a short tour.

    Raises:
        UserError: there are no cameras.
    """
    if not cameras:
        raise UserError("a path along the training cameras needs a field that recorded them; choose orbit or name a JSON file")
    order = _capture_order(cameras)
    poses = np.stack([cameras[i].camera_to_world for i in order])
    for _ in range(min(4, len(poses) // 4)):
        poses = _smoothed(poses)
    times = [cameras[i].time for i in order]
    # Several keys between two frames could not be told apart; leave out what the film cannot show.
    keep = np.unique(np.linspace(0, len(poses) - 1, max(2, min(len(poses), round(seconds * fps)))).astype(int))
    keys = tuple(Keyframe(poses[i], cameras[order[i]].fov, times[i]) for i in keep)
    frames = Keyframes(keys, seconds, seen.width, seen.height)
    return CameraPath(tuple(frames.sample(fps)), fps, keyframes=frames)


def _looking(positions: Array, seen: Overview) -> list[Camera]:
    return [
        Camera.perspective(seen.width, seen.height, seen.fov, look_at(position, seen.centre, seen.up), name=f"{i:05d}")
        for i, position in enumerate(positions)
    ]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts frame 10 after frame 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _capture_order(cameras: Sequence[Camera]) -> list[int]:
    """Indices in order of names, unless a nearest-neighbour tour is less than half as long."""
    named = sorted(range(len(cameras)), key=lambda i: _natural(cameras[i].name))
    positions = np.stack([camera.position for camera in cameras])

    def length(order: list[int]) -> float:
        return float(np.linalg.norm(np.diff(positions[order], axis=0), axis=-1).sum())

    def tour(first: int) -> list[int]:
        order, left = [first], set(named) - {first}
        while left:
            rest = sorted(left)
            order.append(rest[int(np.argmin(np.linalg.norm(positions[rest] - positions[order[-1]], axis=-1)))])
            left.remove(order[-1])
        return order

    # A tour that starts in the middle of an open row has to come back: the camera farthest from it is an end.
    farthest = int(np.argmax(np.linalg.norm(positions - positions[named[0]], axis=-1)))
    best = min((tour(first) for first in (named[0], farthest)), key=length)
    return best if length(best) < 0.5 * length(named) else named


def _smoothed(poses: Array) -> Array:
    """Positions and axes averaged with their neighbours (1 2 1), ends kept: a hand trembles, a film should not."""
    result = poses.copy()
    result[1:-1] = 0.25 * poses[:-2] + 0.5 * poses[1:-1] + 0.25 * poses[2:]
    for pose in result:
        u, _, v = np.linalg.svd(pose[:, :3])
        rotation = u @ v
        # Neighbours that look in opposite directions have no mean orientation with the right handedness.
        pose[:, :3] = rotation if np.linalg.det(rotation) > 0.0 else u @ np.diag([1.0, 1.0, -1.0]) @ v
    return result
