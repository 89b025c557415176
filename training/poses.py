"""Cameras to look at a field from, where there are no photographs: around those it was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..render.camera import Camera, look_at
from ..render.overview import overview
from ..representations.space import Space

Array = NDArray[np.float64]

NEIGHBOURS = 6
"""A new camera stands between a recorded one and one of this many next to it."""
AROUND = 64
"""Cameras made up around the box of a field that recorded none."""


class PoseSource:
    """New cameras between neighbouring recorded ones, so that they see what the recorded ones saw, from where those stood.

    A position moves along the arc around what the cameras look at; the orientation turns with it. Nothing
    depends on the kind of capture: all around an object, a row of views, or a walk. A field without recorded
    cameras is looked at from all around its box. Lenses keep their field of view and lose their distortion.
    """

    def __init__(self, cameras: Sequence[Camera], space: Space) -> None:
        seen = overview(cameras, space)
        self.cameras = [replace(camera, distortion=None) for camera in cameras] or _around(space)
        self.centre: Array = seen.centre
        poses = np.stack([camera.camera_to_world for camera in self.cameras])
        self.rotations, self.positions = poses[:, :, :3], poses[:, :, 3]
        # Neighbours stand close and look the same way; a radius counts as much as a right angle.
        radius = float(np.linalg.norm(self.positions - self.centre, axis=-1).mean()) or 1.0
        apart = np.linalg.norm(self.positions[:, None] - self.positions[None], axis=-1) / radius
        turned = 1.0 - self.rotations[:, :, 2] @ self.rotations[:, :, 2].T
        self.neighbours = np.argsort(apart + turned, axis=1, kind="stable")[:, 1 : NEIGHBOURS + 1]

    def draw(self, count: int, generator: torch.Generator) -> list[Camera]:
        """``count`` new cameras; the same generator state gives the same ones."""
        chosen = torch.randint(len(self.cameras), (count,), generator=generator).tolist()
        numbers = torch.rand(count, 2, generator=generator, dtype=torch.float64).tolist()
        return [self._between(i, which, share) for i, (which, share) in zip(chosen, numbers, strict=True)]

    def _between(self, i: int, which: float, share: float) -> Camera:
        near = self.neighbours[i]
        if not len(near):
            return self.cameras[i]
        j = near[int(which * len(near))]
        a, b = self.positions[i] - self.centre, self.positions[j] - self.centre
        length = (1.0 - share) * np.linalg.norm(a) + share * np.linalg.norm(b)
        arm = (1.0 - share) * a + share * b
        norm = np.linalg.norm(arm)
        if norm > 1e-9 * length:
            arm = arm * (length / norm)
        # Each camera is carried along to the new place, so that it keeps looking where it looked; then they are mixed.
        mixed = (1.0 - share) * _carry(a, arm) @ self.rotations[i] + share * _carry(b, arm) @ self.rotations[j]
        pose = np.concatenate([_rotation(mixed), (self.centre + arm)[:, None]], 1)
        return replace(self.cameras[i], camera_to_world=pose)


def turned(camera: Camera, most: float, generator: torch.Generator) -> Camera:
    """The camera where it stands, rolled, pitched and yawed by up to ``most`` radians each (PVD-AL: pi / 20)."""
    x, y, z = ((torch.rand(3, generator=generator, dtype=torch.float64) * 2.0 - 1.0) * most).tolist()
    pitch = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    yaw = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    roll = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    rotation = camera.camera_to_world[:, :3] @ yaw @ pitch @ roll
    return replace(camera, camera_to_world=np.concatenate([rotation, camera.camera_to_world[:, 3:]], 1))


def _around(space: Space) -> list[Camera]:
    """Cameras spread evenly over a ball around the box (a Fibonacci lattice), looking at its middle."""
    seen = overview((), space)
    height = 1.0 - 2.0 * (np.arange(AROUND) + 0.5) / AROUND
    angle = np.arange(AROUND) * math.pi * (3.0 - math.sqrt(5.0))
    flat = np.sqrt(1.0 - height**2)
    arms = np.stack([flat * np.cos(angle), flat * np.sin(angle), height], -1)
    poses = [look_at(seen.centre + seen.radius * arm, seen.centre, seen.up) for arm in arms]
    return [Camera.perspective(seen.width, seen.height, seen.fov, pose) for pose in poses]


def _carry(a: Array, b: Array) -> Array:
    """The smallest rotation [3, 3] that takes the direction of ``a`` to that of ``b`` (Rodrigues); none where there is no telling."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths > 0.0 else 1.0
    if cosine < -0.999:
        return np.eye(3)
    x, y, z = np.cross(a, b) / max(lengths, 1e-300)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    found: Array = np.eye(3) + skew + skew @ skew / (1.0 + cosine)
    return found


def _rotation(matrix: Array) -> Array:
    """The rotation nearest to a matrix of positive determinant."""
    u, _, v = np.linalg.svd(matrix)
    found: Array = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
    return found
