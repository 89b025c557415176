"""What a set of cameras says about its scene: which way is up, what they look at, from how far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..representations.field import Field
from ..representations.space import Space
from .camera import Camera

__all__ = ["Overview", "overview", "recorded_cameras"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Overview:
    """A scene seen from its cameras; lengths in world units, angles in radians."""

    up: Array
    """Unit vector."""
    centre: Array
    """What the cameras look at."""
    radius: float
    """Mean distance of the cameras from ``centre``."""
    elevation: float
    """Mean angle of the cameras above the horizontal plane through ``centre``."""
    heading: Array
    """Unit horizontal vector from ``centre`` to the side the cameras stand on."""
    surrounds: bool
    """Whether the cameras stand all around, with no gap in azimuth above 120 degrees."""
    fov: float
    """Median vertical field of view, degrees."""
    width: int
    height: int
    positions: Array
    """The cameras' centres, [C, 3]."""

    @property
    def side(self) -> Array:
        """Horizontal unit vector at right angles to ``heading``: counter-clockwise seen from above."""
        return np.cross(self.up, self.heading)


def overview(cameras: Sequence[Camera], space: Space) -> Overview:
    """Estimate from cameras and the field's box; without cameras, a view of the box with +Z up."""
    lower, upper = np.array(space.lower), np.array(space.upper)
    middle = 0.5 * (lower + upper)
    if not cameras:
        radius = 1.2 * float(np.linalg.norm(upper - lower))
        return Overview(
            np.array([0.0, 0, 1]), middle, radius, np.radians(20.0), np.array([0.0, -1, 0]), True, 45.0, 640, 480, np.zeros((0, 3))
        )
    poses = np.stack([camera.camera_to_world for camera in cameras])
    up = _up(poses[:, :, 0], poses[:, :, 1])
    centre = np.clip(_focus(poses[:, :, 3], -poses[:, :, 2], middle, float(np.linalg.norm(upper - lower))), lower, upper)
    arms = poses[:, :, 3] - centre
    heights = arms @ up
    flat = arms - heights[:, None] * up
    distances = np.linalg.norm(arms, axis=-1)
    elevation = float(np.arcsin(np.clip(heights / np.maximum(distances, 1e-12), -1.0, 1.0)).mean())
    first = _horizontal(flat.sum(0), up)
    second = np.cross(up, first)
    azimuths = np.sort(np.arctan2(flat @ second, flat @ first))
    gap = float(np.diff(np.append(azimuths, azimuths[0] + 2.0 * np.pi)).max())
    middle_camera = cameras[len(cameras) // 2]
    return Overview(
        up,
        centre,
        float(distances.mean()) or 1.0,
        elevation,
        first,
        len(cameras) > 3 and gap < np.radians(120.0),
        float(np.median([camera.fov for camera in cameras])),
        middle_camera.width,
        middle_camera.height,
        poses[:, :, 3],
    )


def recorded_cameras(field: Field) -> list[Camera]:
    """The training cameras a field carries in its metadata, or none.

    Raises:
        UserError: they are there but make no sense.
    """
    recorded = field.metadata.get("cameras", [])
    try:
        return [Camera.from_dict(entry) for entry in recorded]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the field's recorded training cameras cannot be read ({error!r}); give a camera path file instead") from error


def _up(right: Array, upward: Array) -> Array:
    """The direction most at right angles to all cameras' x axes (a camera held level keeps them horizontal).

    Where those are all alike the cameras' y axes decide; they also choose the sign.
    """
    mean = upward.mean(0)
    length = np.linalg.norm(mean)
    matrix = right.T @ right / len(right)
    if length > 1e-6:
        matrix = matrix - 0.01 * np.outer(mean, mean) / length**2
    up: Array = np.linalg.eigh(matrix)[1][:, 0]
    return up if float(up @ mean) >= 0.0 else -up


def _focus(positions: Array, forward: Array, fallback: Array, size: float) -> Array:
    """The point nearest to all optical axes; ``fallback`` pulls weakly, and decides where the axes are parallel."""
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    weight = 1e-3 * len(positions)
    matrix = across.sum(0) + weight * np.eye(3)
    vector = (across @ positions[:, :, None])[:, :, 0].sum(0) + weight * fallback
    focus: Array = np.linalg.solve(matrix, vector)
    # Axes that diverge meet behind the cameras: nobody looks at that point.
    ahead = ((focus - positions) * forward).sum(-1)
    return focus if float((ahead > 0.0).mean()) > 0.5 or size == 0.0 else fallback


def _horizontal(vector: Array, up: Array) -> Array:
    flat = vector - float(vector @ up) * up
    length = np.linalg.norm(flat)
    if length < 1e-9:
        flat = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
        length = np.linalg.norm(flat)
    unit: Array = flat / length
    return unit
