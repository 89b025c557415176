"""The region of space a scene lives in, from where its cameras stand and look.

Nothing here needs a knob: a box around the object for pictures with an empty background, and
an uncontracted middle around the place the cameras look at for photographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..render.camera import Camera
from ..representations.space import Space, Vec3

Array = NDArray[np.float64]

PARALLEL = 0.01
"""Mean squared sine below which viewing directions count as parallel (cameras within about 8 degrees of each other)."""
INNER = 0.6
"""Half side of an unbounded space's middle, as a share of the median distance from cameras to what they look at."""
NEAR = 0.05
"""Nearest distance looked at, as a share of the smallest distance between a camera and what it looks at."""
FORWARD_DEPTH = 4.0
"""Assumed distance of a forward-facing capture's subject in widths of its camera path.

Local light field fusion's rule of thumb is a view spacing well below the subject's distance; measured
LLFF captures have depth / width between 2 and 8.
"""


@dataclass(frozen=True)
class Focus:
    """What the cameras look at."""

    kind: str
    """inward: their axes meet in front of them. forward: nearly parallel axes. outward: they look away from each other."""
    centre: Array  # [3]
    distances: Array  # [C] from each camera to the centre


@dataclass(frozen=True)
class Region:
    space: Space
    near: float
    reason: str
    """How the box was found, in words."""


def focus(cameras: Sequence[Camera]) -> Focus:
    """The point closest to all optical axes in the least-squares sense, where such a point means anything.

    Minimises sum |(I - d d^T)(x - o)|^2 over the axes (o, d); the system's smallest eigenvalue is
    the mean squared sine between the axes and their common direction, zero for parallel ones.
    """
    poses = np.stack([camera.camera_to_world for camera in cameras])
    origins, directions = poses[:, :, 3], -poses[:, :, 2]
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    system = across.mean(0)
    mean = origins.mean(0)
    spread = float(np.linalg.norm(origins - mean, axis=1).max())
    if np.linalg.eigvalsh(system)[0] >= PARALLEL:
        centre = np.linalg.solve(system, (across @ origins[:, :, None]).mean(0)[:, 0])
        depths = ((centre - origins) * directions).sum(1)
        if (depths > 0.0).mean() >= 0.9:
            return Focus("inward", centre, np.linalg.norm(centre - origins, axis=1))
        # Cameras inside a room looking at its walls: where they stand is the middle.
        radius = max(spread, 1e-3 * float(np.abs(mean).max()), 1e-6)
        return Focus("outward", mean, np.full(len(origins), radius))
    forward = directions.mean(0)
    forward /= max(float(np.linalg.norm(forward)), 1e-9)
    width = 2.0 * spread
    # Standing still, a camera tells nothing of scale; the world's origin then counts as the subject, or one unit.
    depth = FORWARD_DEPTH * width if width > 1e-6 else max(float(-origins[0] @ forward), 1.0)
    centre = mean + depth * forward
    return Focus("forward", centre, np.linalg.norm(centre - origins, axis=1))


def object_region(cameras: Sequence[Camera], complete: Sequence[bool] | None = None) -> Region:
    """Bounded box of an object photographed from around against an empty background.

    A camera at distance r from the focus whose picture shows the whole object sees it within
    r tan(half field of view) of the focus; the smallest such bound is the cube's half side.
    ``complete`` marks the cameras known to show all of it (no opaque pixel at the picture's border);
    None: all. If none does, the largest bound is taken, since the object may continue outside every picture.
    Cameras that do not look inwards say nothing of the object's extent: they get an unbounded space.
    """
    seen = focus(cameras)
    if seen.kind != "inward":
        return photo_region(cameras)
    reach = np.array([r * _half_extent(camera) for r, camera in zip(seen.distances, cameras, strict=True)])
    whole = np.ones(len(cameras), bool) if complete is None else np.asarray(complete, bool)
    half = float(reach[whole].min() if whole.any() else reach.max())
    half *= 1.0 + 1e-6  # the faces themselves count as outside
    space = _cube(seen.centre, half)
    positions = np.stack([camera.position for camera in cameras])
    outside = np.maximum(np.abs(positions - seen.centre) - half, 0.0)
    near = float(np.linalg.norm(outside, axis=1).min()) * 0.999
    if near == 0.0:
        near = NEAR * float(seen.distances.min())
    what = "seen whole by" if whole.any() else "seen by"
    return Region(space, near, f"cube {what} the cameras around the point they look at")


def photo_region(cameras: Sequence[Camera]) -> Region:
    """Unbounded space of real photographs: its uncontracted middle holds the subject.

    Inward-facing: a cube of :data:`INNER` times the median camera distance around the focus, so that
    the subject has the finer half of every axis and the cameras stand near its faces, where the
    contraction is still mild. Forward-facing: a cube that reaches from the subject back to the
    cameras. Outward-facing: twice the neighbourhood the cameras stand in.
    """
    seen = focus(cameras)
    distance = float(np.median(seen.distances))
    if seen.kind == "inward":
        half, reason = INNER * distance, "around the point the cameras look at, with background"
    elif seen.kind == "forward":
        half, reason = distance, "ahead of forward-facing cameras, with background"
    else:
        half, reason = 2.0 * distance, "around outward-looking cameras, with background"
    return Region(_cube(seen.centre, half, unbounded=True), NEAR * float(seen.distances.min()), reason)


def given_region(cameras: Sequence[Camera], space: Space, reason: str) -> Region:
    """A box the file prescribes; near as for the box found otherwise."""
    positions = np.stack([camera.position for camera in cameras])
    lower, upper = np.array(space.lower), np.array(space.upper)
    if not space.unbounded:
        gap = np.maximum(np.maximum(lower - positions, positions - upper), 0.0)
        near = float(np.linalg.norm(gap, axis=1).min()) * 0.999
        if near > 0.0:
            return Region(space, near, reason)
    distances = np.linalg.norm(positions - 0.5 * (lower + upper), axis=1)
    return Region(space, NEAR * float(max(distances.min(), 0.05 * max(space.size))), reason)


def _half_extent(camera: Camera) -> float:
    """Tangent of half the field of view along the longer side, measured from the picture's farther edge."""
    x = max(camera.cx, camera.width - camera.cx) / camera.fx
    y = max(camera.cy, camera.height - camera.cy) / camera.fy
    if camera.distortion is None or camera.distortion.is_identity:
        return max(x, y)
    corner = camera.rays(np.array([[0.0, camera.cy], [camera.width, camera.cy], [camera.cx, 0.0], [camera.cx, camera.height]]))
    cosine = corner.directions.double().numpy() @ -camera.camera_to_world[:, 2]
    angle = float(np.nanmax(np.arccos(np.clip(cosine, -1.0, 1.0))))
    # A fisheye sees sideways; beyond 63 degrees the distance itself bounds the object no tighter.
    return min(math.tan(min(angle, 1.5)), 2.0)


def _cube(centre: Array, half: float, unbounded: bool = False) -> Space:
    low: Vec3 = (float(centre[0] - half), float(centre[1] - half), float(centre[2] - half))
    high: Vec3 = (float(centre[0] + half), float(centre[1] + half), float(centre[2] + half))
    return Space(low, high, unbounded)
