"""Lines drawn over the picture: training cameras, the scene's box, the crop box and its handles, a camera path. No GUI.

Everything is clipped against the camera's near plane and projected by a pinhole; a training camera's distortion is
not applied, so that lines stay lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..render.camera import Camera
from ..render.types import Box

Array = NDArray[np.float64]
Color = tuple[int, int, int, int]

CAMERA_COLOR: Color = (255, 178, 62, 170)
CURRENT_COLOR: Color = (255, 226, 120, 255)
BOX_COLOR: Color = (150, 160, 175, 120)
CROP_COLOR: Color = (80, 200, 255, 230)
SELECTION_COLOR: Color = (255, 120, 200, 235)
PATH_COLOR: Color = (120, 235, 150, 230)
TEXT_COLOR: Color = (235, 238, 242, 255)
AXIS_COLORS: tuple[Color, Color, Color] = ((235, 90, 90, 255), (110, 205, 90, 255), (90, 140, 245, 255))

_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)]


@dataclass(frozen=True)
class Line:
    """A segment in the view, pixels."""

    start: tuple[float, float]
    end: tuple[float, float]
    color: Color
    thickness: float = 1.0


@dataclass(frozen=True)
class Label:
    """A few words in the view; ``boxed``: on a dark plate, readable over any picture."""

    place: tuple[float, float]
    text: str
    color: Color
    boxed: bool = False


@dataclass(frozen=True)
class Handle:
    """A face of the crop box that can be dragged: axis 0 to 2, side 0 lower or 1 upper, its place in the view."""

    axis: int
    side: int
    place: tuple[float, float]
    along: tuple[float, float]
    """What moving the face by one world unit moves on the screen, pixels."""
    color: Color = CROP_COLOR


class Projector:
    """World points to pixels of a view, near-plane clipping included."""

    def __init__(self, pose: Array, fov: float, width: int, height: int) -> None:
        self.pose, self.width, self.height = pose, width, height
        self.focal = 0.5 * height / math.tan(math.radians(fov) / 2.0)
        self.near = 1e-4

    def local(self, points: Array) -> Array:
        """Camera coordinates [N, 3] with z growing away from the camera."""
        return (points - self.pose[:, 3]) @ self.pose[:, :3] * (1.0, -1.0, -1.0)

    def pixels(self, local: Array) -> Array:
        return local[:, :2] / local[:, 2:] * self.focal + (0.5 * self.width, 0.5 * self.height)

    def point(self, point: Array) -> tuple[float, float] | None:
        """Pixel of a point, or None behind the camera."""
        local = self.local(np.asarray(point, np.float64)[None])
        if local[0, 2] < self.near:
            return None
        x, y = self.pixels(local)[0]
        return float(x), float(y)

    def lines(self, starts: Array, ends: Array, color: Color, thickness: float = 1.0) -> list[Line]:
        """Segments [N, 3] to [N, 3] as far as they lie in front of the camera and near the view."""
        a, b = self.local(starts), self.local(ends)
        near = max(self.near, 1e-3 * float(np.abs(b - a).max(initial=0.0)))
        keep = (a[:, 2] > near) | (b[:, 2] > near)
        a, b = a[keep], b[keep]
        for p, q in ((a, b), (b, a)):
            hidden = p[:, 2] < near
            share = ((near - p[hidden, 2]) / (q[hidden, 2] - p[hidden, 2]))[:, None]
            p[hidden] += share * (q[hidden] - p[hidden])
        if not len(a):
            return []
        p, q = self.pixels(a), self.pixels(b)
        limit = 4.0 * max(self.width, self.height)
        return [
            Line((float(u[0]), float(u[1])), (float(v[0]), float(v[1])), color, thickness)
            for u, v in zip(p, q, strict=True)
            if np.abs(u).max() < limit and np.abs(v).max() < limit
        ]


def box_lines(view: Projector, box: Box, color: Color, thickness: float = 1.0) -> list[Line]:
    """The twelve edges of a box."""
    corners = np.array([[box[(c >> axis) & 1][axis] for axis in range(3)] for c in range(8)])
    return view.lines(corners[[a for a, _ in _EDGES]], corners[[b for _, b in _EDGES]], color, thickness)


def repeated(lines: Sequence[Line], parts: int, width: float) -> list[Line]:
    """Lines over one part of a view, ``width`` pixels wide, over each of ``parts`` side by side, cut off at the part's edges."""
    if parts == 1:
        return list(lines)
    found = []
    for line in lines:
        (x0, y0), (x1, y1) = line.start, line.end
        shares = sorted(min(max((edge - x0) / (x1 - x0), 0.0), 1.0) for edge in (0.0, width)) if x0 != x1 else [0.0, 1.0]
        a, b = ((x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in shares)
        if max(a[0], b[0]) < 0.0 or min(a[0], b[0]) > width or shares[0] == shares[1]:
            continue
        for part in range(parts):
            shift = part * width
            found.append(replace(line, start=(a[0] + shift, a[1]), end=(b[0] + shift, b[1])))
    return found


def box_handles(view: Projector, box: Box, color: Color = CROP_COLOR) -> list[Handle]:
    """Handles in the middle of each face that is in front of the camera."""
    middle = 0.5 * (np.array(box[0]) + np.array(box[1]))
    found = []
    for axis in range(3):
        for side in (0, 1):
            centre = middle.copy()
            centre[axis] = box[side][axis]
            step = 1e-3 * max(1e-9, box[1][axis] - box[0][axis])
            beside = centre.copy()
            beside[axis] += step
            here, there = view.point(centre), view.point(beside)
            if here is not None and there is not None:
                found.append(Handle(axis, side, here, ((there[0] - here[0]) / step, (there[1] - here[1]) / step), color))
    return found


def drag_handle(box: Box, handle: Handle, right: float, down: float) -> Box:
    """The box after its handle was dragged by pixels: as far as the drag goes along the face's own direction."""
    length = handle.along[0] ** 2 + handle.along[1] ** 2
    if length < 1e-9:
        return box
    move = (right * handle.along[0] + down * handle.along[1]) / length
    corners = [list(box[0]), list(box[1])]
    other = corners[1 - handle.side][handle.axis]
    value = corners[handle.side][handle.axis] + move
    corners[handle.side][handle.axis] = min(value, other) if handle.side == 0 else max(value, other)
    lower, upper = corners
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def frusta_lines(view: Projector, cameras: Sequence[Camera], size: float, current: int | None = None) -> list[Line]:
    """Small pyramids where the training cameras stand, ``size`` world units deep; the current one stands out."""
    starts, ends, bright = [], [], []
    for index, camera in enumerate(cameras):
        starts_of, ends_of = _frustum(camera.camera_to_world, camera.width / camera.fx, camera.height / camera.fy, size)
        starts.append(starts_of)
        ends.append(ends_of)
        bright.append(index == current)
    if not starts:
        return []
    lines = []
    for chosen, color, thickness in ((False, CAMERA_COLOR, 1.0), (True, CURRENT_COLOR, 2.0)):
        picked = [i for i, b in enumerate(bright) if b == chosen]
        if picked:
            lines += view.lines(np.concatenate([starts[i] for i in picked]), np.concatenate([ends[i] for i in picked]), color, thickness)
    return lines


def _frustum(pose: Array, across: float, tall: float, size: float) -> tuple[Array, Array]:
    corners = np.array([[-across, tall, -2.0], [across, tall, -2.0], [across, -tall, -2.0], [-across, -tall, -2.0]]) * (0.5 * size)
    corners = corners @ pose[:, :3].T + pose[:, 3]
    apex = np.repeat(pose[None, :, 3], 4, 0)
    return np.concatenate([apex, corners]), np.concatenate([corners, np.roll(corners, -1, 0)])


def polyline(view: Projector, points: Array, color: Color, thickness: float = 1.0) -> list[Line]:
    """A line through points [N, 3]."""
    return view.lines(points[:-1], points[1:], color, thickness) if len(points) > 1 else []


def axes_lines(rotation: Array, centre: tuple[float, float], length: float) -> list[tuple[Line, str]]:
    """The world's axes as they look from the camera, nearest last, with their names."""
    tips = [(rotation[axis, 0], -rotation[axis, 1], rotation[axis, 2], axis) for axis in range(3)]
    return [
        (Line(centre, (centre[0] + length * float(x), centre[1] + length * float(y)), AXIS_COLORS[axis], 2.0), "XYZ"[axis])
        for x, y, _, axis in sorted(tips, key=lambda tip: tip[2])
    ]
