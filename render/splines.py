"""Smooth camera motion through keyframes, at constant speed.

Positions and orientations follow a centripetal Catmull-Rom spline (Yuksel et al. 2011: no loops
or cusps between unevenly spaced keys); it is then walked by arc length, so that speed does not
depend on how densely keyframes were set. Field of view and time follow monotone cubics, which never overshoot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera import Camera

__all__ = ["Keyframe", "Keyframes", "matrix_from_quaternion", "quaternion_from_matrix"]

Array = NDArray[np.float64]

_DENSITY = 200
"""Points per segment at which arc length is measured."""


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A view the path passes: camera-to-world [3, 4] (OpenGL axes), vertical field of view in degrees, and scene time in [0, 1]."""

    camera_to_world: Array
    fov: float
    time: float | None = None


@dataclass(frozen=True, eq=False)
class Keyframes:
    """A path as its author sees it; :meth:`sample` draws the frames."""

    frames: tuple[Keyframe, ...]
    seconds: float
    width: int
    height: int
    loop: bool = False

    def sample(self, fps: float) -> list[Camera]:
        """Cameras at constant speed, ``seconds * fps`` of them; a loop's last frame is one step before its first.

        Where keyframes share one position the camera turns on the spot, each such turn taking as long as an average segment.
        """
        count = max(1, round(self.seconds * fps))
        keys = self.frames
        if not keys:
            return []
        poses = np.stack([key.camera_to_world for key in keys])
        times = None if any(key.time is None for key in keys) else np.array([key.time for key in keys])
        if len(keys) == 1:
            poses, fovs = np.repeat(poses, count, 0), np.full(count, keys[0].fov)
            moments = None if times is None else np.repeat(times, count)
        else:
            poses, fovs, moments = self._walk(poses, np.array([key.fov for key in keys]), times, count)
        return [
            Camera.perspective(self.width, self.height, float(fovs[i]), poses[i], None if moments is None else float(moments[i]))
            for i in range(len(poses))
        ]

    def _walk(self, poses: Array, fovs: Array, times: Array | None, count: int) -> tuple[Array, Array, Array | None]:
        rotations = aligned(np.stack([quaternion_from_matrix(pose[:, :3]) for pose in poses]), self.loop)
        curve = np.concatenate([poses[:, :, 3], rotations[: len(poses)]], -1)  # [K, 7]
        if self.loop:
            # The quaternion that closes the loop may be the negative of the first.
            last = np.concatenate([poses[:1, :, 3], rotations[-1:]], -1)
            curve, fovs = np.concatenate([curve, last]), np.append(fovs, fovs[0])
            times = None if times is None else np.append(times, times[0])
        gaps = np.linalg.norm(np.diff(curve[:, :3], axis=0), axis=-1)
        average = gaps[gaps > 0.0].mean() if (gaps > 0.0).any() else 1.0
        resting = gaps < 1e-6 * average
        knots = np.concatenate([[0.0], np.cumsum(np.sqrt(np.where(resting, average, gaps)))])
        tangents = _tangents(curve, knots, self.loop)

        # Length along the curve at a dense set of parameters; a turn on the spot counts as an average segment.
        steps = np.linspace(0.0, 1.0, _DENSITY + 1)
        dense = np.unique(np.concatenate([knots[i] + steps * (knots[i + 1] - knots[i]) for i in range(len(gaps))]))
        points = _hermite(curve[:, :3], tangents[:, :3], knots, dense)
        lengths = np.linalg.norm(np.diff(points, axis=0), axis=-1)
        segment = np.clip(np.searchsorted(knots, dense[:-1], side="right") - 1, 0, len(gaps) - 1)
        lengths = np.where(resting[segment], average * np.diff(dense) / np.diff(knots)[segment], lengths)
        travelled = np.concatenate([[0.0], np.cumsum(lengths)])
        wanted = np.linspace(0.0, travelled[-1], count + 1)[:-1] if self.loop else np.linspace(0.0, travelled[-1], count)
        place = np.interp(wanted, travelled, dense)

        found = _hermite(curve, tangents, knots, place)
        result = np.empty((len(place), 3, 4))
        result[:, :, 3] = found[:, :3]
        result[:, :, :3] = np.stack([matrix_from_quaternion(q) for q in found[:, 3:]])
        return result, _monotone(fovs, knots, place), None if times is None else _monotone(times, knots, place)


def quaternion_from_matrix(rotation: ArrayLike) -> Array:
    """Unit quaternion (w, x, y, z) of a rotation matrix [3, 3] (Shepperd 1978)."""
    m = np.asarray(rotation, np.float64)
    trace = np.array([m.trace(), m[0, 0], m[1, 1], m[2, 2]])
    largest = int(np.argmax(trace))
    if largest == 0:
        q = np.array([1.0 + m.trace(), m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    else:
        i, j, k = ((0, 1, 2), (1, 2, 0), (2, 0, 1))[largest - 1]
        q = np.empty(4)
        q[0] = m[k, j] - m[j, k]
        q[1 + i] = 1.0 + m[i, i] - m[j, j] - m[k, k]
        q[1 + j] = m[j, i] + m[i, j]
        q[1 + k] = m[k, i] + m[i, k]
    unit: Array = q / np.linalg.norm(q)
    return unit


def matrix_from_quaternion(quaternion: ArrayLike) -> Array:
    """Rotation matrix [3, 3] of a quaternion (w, x, y, z) of any non-zero length."""
    w, x, y, z = (q := np.asarray(quaternion, np.float64)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def aligned(quaternions: Array, loop: bool = False) -> Array:
    """The same rotations [K, 4] with signs chosen so that neighbours are close; a loop gets its first once more at the end, [K + 1, 4]."""
    result = [quaternions[0]]
    for quaternion in [*quaternions[1:], *([quaternions[0]] if loop else [])]:
        result.append(quaternion if np.dot(quaternion, result[-1]) >= 0.0 else -quaternion)
    return np.stack(result)


def _tangents(values: Array, knots: Array, loop: bool) -> Array:
    """Catmull-Rom tangents [K, D] for uneven knots."""
    width = np.diff(knots)[:, None]
    slope = np.diff(values, axis=0) / width
    tangents = np.empty_like(values)
    tangents[1:-1] = (slope[:-1] * width[1:] + slope[1:] * width[:-1]) / (width[:-1] + width[1:])
    if loop:
        # Where the quaternion that closes the loop has the other sign, so has its tangent.
        sign = np.ones(values.shape[1])
        sign[3:] = 1.0 if float(values[0, 3:] @ values[-1, 3:]) >= 0.0 else -1.0
        tangents[0] = (slope[-1] * sign * width[0] + slope[0] * width[-1]) / (width[0] + width[-1])
        tangents[-1] = tangents[0] * sign
    elif len(values) == 2:
        tangents[:] = slope[0]
    else:
        tangents[0] = 1.5 * slope[0] - 0.5 * tangents[1]
        tangents[-1] = 1.5 * slope[-1] - 0.5 * tangents[-2]
    return tangents


def _hermite(values: Array, tangents: Array, knots: Array, place: Array) -> Array:
    """Cubic Hermite curve [N, D] at parameters ``place`` [N]."""
    index = np.clip(np.searchsorted(knots, place, side="right") - 1, 0, len(knots) - 2)
    width = (knots[index + 1] - knots[index])[:, None]
    s = ((place - knots[index])[:, None]) / width
    curve: Array = (
        (1 + 2 * s) * (1 - s) ** 2 * values[index]
        + s * (1 - s) ** 2 * width * tangents[index]
        + s * s * (3 - 2 * s) * values[index + 1]
        + s * s * (s - 1) * width * tangents[index + 1]
    )
    return curve


def _monotone(values: Array, knots: Array, place: Array) -> Array:
    """Cubic through ``values`` [K] that rises and falls only where they do (Fritsch & Butland 1984)."""
    slope = np.diff(values) / np.diff(knots)
    tangents = np.zeros_like(values)
    before, after = slope[:-1], slope[1:]
    same = before * after > 0.0
    tangents[1:-1][same] = 2.0 * before[same] * after[same] / (before[same] + after[same])
    tangents[0], tangents[-1] = slope[0], slope[-1]
    return _hermite(values[:, None], tangents[:, None], knots, place)[:, 0]
