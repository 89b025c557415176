"""Where the viewer's camera is and how input moves it. No GUI: angles, fractions of the view's height, seconds.

The camera orbits, pans and zooms around a *focus* (the orbit centre); flying and looking around carry the focus
along in front.  Screen coordinates are fractions of the view: (0, 0) its top left corner, (1, 1) its bottom right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..render.camera import Camera, look_at
from ..render.overview import Overview

Array = NDArray[np.float64]

TURN = math.pi
"""A drag across the view's height turns by this angle."""
ZOOM = 1.1
"""One notch of the wheel (instant-ngp's factor)."""
FAST = 5.0
"""Flying with Shift held (instant-ngp's factor)."""
LEAST_FOV, MOST_FOV = 5.0, 150.0
STEEPEST = math.radians(89.0)
"""With the up axis locked the camera never looks straight up or down."""


class Navigator:
    """A pinhole camera with an orbit centre. Poses are camera-to-world [3, 4], OpenGL axes, world units."""

    def __init__(self, home: Overview, cameras: Sequence[Camera] = ()) -> None:
        self.home, self.cameras = home, list(cameras)
        self.up: Array = home.up.copy()
        self.up_locked = True
        self.fov = home.fov
        self.speed = home.radius / 4.0
        """Flying, world units per second."""
        self.focus: Array = home.centre.copy()
        self.pose: Array = np.zeros((3, 4))
        self.view_index: int | None = None
        """The training camera the view sits at, until it moves."""
        self.reset()

    @property
    def position(self) -> Array:
        return self.pose[:, 3]

    @property
    def rotation(self) -> Array:
        """Columns: right, up, back."""
        return self.pose[:, :3]

    @property
    def distance(self) -> float:
        """From the camera to the focus."""
        return float(np.linalg.norm(self.position - self.focus))

    def camera(self, width: int, height: int) -> Camera:
        """The view as a picture of that size; a training camera's own lens while the view sits at it."""
        if self.view_index is not None:
            return self.cameras[self.view_index].fitted(width, height)
        return Camera.perspective(width, height, self.fov, self.pose)

    def reset(self) -> None:
        """Back to where the scene is seen whole, from the side its cameras stand on."""
        home = self.home
        arm = math.cos(home.elevation) * home.heading + math.sin(home.elevation) * home.up
        self.up, self.fov, self.view_index = home.up.copy(), home.fov, None
        self.focus = home.centre.copy()
        self.pose = look_at(home.centre + home.radius * arm, home.centre, home.up)

    def orbit(self, right: float, down: float) -> None:
        """Turn about the focus as if it were dragged by fractions of the view's height."""
        self._turn(-TURN * right, -TURN * down, self.focus)

    def look(self, right: float, down: float) -> None:
        """Turn about the camera itself; the focus swings along."""
        distance = max(self.distance, 1e-6)
        half = math.radians(self.fov)
        self._turn(-half * right, -half * down, self.position.copy())
        self.focus = self.position - distance * self.rotation[:, 2]

    def roll(self, angle: float) -> None:
        """Turn about the line of sight, radians; frees the up axis."""
        self.up_locked = False
        self._rotate(_about(self.rotation[:, 2], angle), self.position.copy())

    def pan(self, right: float, down: float, depth: float | None = None) -> None:
        """Shift sideways so that what lies at ``depth`` (default: the focus) follows the pointer; fractions of the view's height."""
        along = -float((self.focus - self.position) @ self.rotation[:, 2])
        reach = 2.0 * math.tan(math.radians(self.fov) / 2.0) * (depth if depth is not None else max(along, 1e-3 * self.home.radius))
        self._shift(reach * (-right * self.rotation[:, 0] + down * self.rotation[:, 1]))

    def dolly(self, notches: float) -> None:
        """Towards the focus (positive) or away, each notch by a tenth of the distance."""
        self.leave_view()
        distance = max(self.distance * ZOOM ** (-notches), 1e-4 * self.home.radius)
        direction = self.position - self.focus
        length = float(np.linalg.norm(direction))
        direction = direction / length if length > 0.0 else self.rotation[:, 2]
        self.pose[:, 3] = self.focus + distance * direction

    def fly(self, right: float, up: float, forward: float, seconds: float, fast: bool = False) -> None:
        """Move with the camera's own axes (up: the up axis where it is locked), each in [-1, 1]."""
        lift = self.up if self.up_locked else self.rotation[:, 1]
        step = right * self.rotation[:, 0] + up * lift - forward * self.rotation[:, 2]
        self._shift(step * self.speed * (FAST if fast else 1.0) * seconds)

    def set_fov(self, degrees: float) -> None:
        self.leave_view()
        self.fov = min(max(degrees, LEAST_FOV), MOST_FOV)

    def set_focus(self, point: ArrayLike) -> None:
        """Make a point the orbit centre and turn to look at it."""
        target = np.asarray(point, np.float64)
        if not np.isfinite(target).all() or float(np.linalg.norm(target - self.position)) < 1e-9:
            return
        self.leave_view()
        upward = self.up if self.up_locked else self.rotation[:, 1]
        self.pose = look_at(self.position, target, upward)
        self.focus = target.copy()

    def focus_scene(self) -> None:
        """Keep the direction of sight, and step back until the scene is in view."""
        self.leave_view()
        self.focus = self.home.centre.copy()
        self.pose[:, 3] = self.focus + self.home.radius * self.rotation[:, 2]

    def set_pose(self, pose: ArrayLike, fov: float | None = None) -> None:
        """Stand where ``pose`` says; the focus becomes the point in front nearest to the scene's centre."""
        self.view_index = None
        self.pose = np.array(pose, np.float64)[:3].copy()
        if fov is not None:
            self.fov = min(max(fov, LEAST_FOV), MOST_FOV)
        ahead = float((self.home.centre - self.position) @ -self.rotation[:, 2])
        self.focus = self.position - max(ahead, 0.1 * self.home.radius) * self.rotation[:, 2]

    def set_up(self, axis: ArrayLike) -> None:
        """Choose the up axis and straighten the view."""
        up = np.asarray(axis, np.float64)
        self.up = up / np.linalg.norm(up)
        self.up_locked = True
        self.leave_view()
        self.pose = look_at(self.position, self.focus, self.up)

    def to_view(self, index: int) -> None:
        """Stand at a training camera; indices wrap around."""
        if not self.cameras:
            return
        index %= len(self.cameras)
        camera = self.cameras[index]
        self.set_pose(camera.camera_to_world, camera.fov)
        self.view_index = index

    def step_view(self, step: int) -> None:
        """The next (1) or previous (-1) training camera; the nearest one where the view is at none."""
        if not self.cameras:
            return
        self.to_view(self.nearest_view() if self.view_index is None else self.view_index + step)

    def nearest_view(self) -> int:
        """The training camera that stands and looks most alike."""
        size = max(self.home.radius, 1e-9)
        away = [
            float(np.linalg.norm(c.position - self.position)) / size - float(c.camera_to_world[:, 2] @ self.rotation[:, 2])
            for c in self.cameras
        ]
        return int(np.argmin(away))

    def leave_view(self) -> None:
        """From now on the lens is the viewer's own."""
        self.view_index = None

    def ray(self, x: float, y: float, aspect: float) -> tuple[Array, Array]:
        """Origin and unit direction of what is seen at a place on the screen; ``aspect`` is width / height."""
        tall = math.tan(math.radians(self.fov) / 2.0)
        local = np.array([(2.0 * x - 1.0) * tall * aspect, (1.0 - 2.0 * y) * tall, -1.0])
        direction = self.rotation @ local
        return self.position.copy(), direction / np.linalg.norm(direction)

    def _shift(self, offset: Array) -> None:
        self.leave_view()
        self.pose[:, 3] += offset
        self.focus = self.focus + offset

    def _turn(self, around: float, over: float, centre: Array) -> None:
        """By ``around`` about the up axis and ``over`` about the camera's own x axis, through ``centre``."""
        if not self.up_locked:
            self._rotate(_about(self.rotation[:, 1], around) @ _about(self.rotation[:, 0], over), centre)
            return
        back = self.rotation[:, 2]
        height = math.asin(min(max(float(back @ self.up), -1.0), 1.0))
        # Turning over by an angle lowers the back vector's height above the horizon by it: stop before the pole.
        over = height - min(max(height - over, -STEEPEST), STEEPEST)
        self._rotate(_about(self.up, around) @ _about(self.rotation[:, 0], over), centre)

    def _rotate(self, turn: Array, centre: Array) -> None:
        self.leave_view()
        self.pose[:, 3] = centre + turn @ (self.position - centre)
        u, _, v = np.linalg.svd(turn @ self.rotation)  # thousands of small turns must not bend the axes
        self.pose[:, :3] = u @ v


def _about(axis: Array, angle: float) -> Array:
    """Rotation matrix [3, 3] about an axis (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    turn: Array = np.eye(3) + math.sin(angle) * k + (1.0 - math.cos(angle)) * (k @ k)
    return turn
