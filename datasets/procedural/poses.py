"""Where the procedural scene's cameras stand: NeRF-Synthetic's way, on the upper half of a sphere looking at its middle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...render.camera import Camera, look_at

RADIUS = 4.0
ANGLE_X = 0.69
"""Horizontal field of view, radians."""
TARGET = (0.0, 0.0, -0.04)
LOWEST, HIGHEST = 0.03, 0.97
"""Sine of the elevation of random cameras; beyond it look-at has no upright picture."""
TURNTABLE = math.radians(24.0)
"""Elevation of the test cameras."""


def camera(position: NDArray[np.float64], size: int, name: str = "") -> Camera:
    """A square pinhole at ``position`` that looks at the scene's middle."""
    focal = 0.5 * size / math.tan(0.5 * ANGLE_X)
    return Camera(size, size, focal, focal, size / 2.0, size / 2.0, look_at(position, TARGET), name=name)


def random_cameras(count: int, size: int, rng: np.random.Generator, folder: str) -> list[Camera]:
    """Uniformly distributed over the upper hemisphere; each camera is the best of some candidates at keeping away from the others."""
    chosen: list[NDArray[np.float64]] = []
    for _ in range(count):
        height = rng.uniform(LOWEST, HIGHEST, 8)
        angle = rng.uniform(0.0, 2.0 * math.pi, 8)
        flat = np.sqrt(1.0 - height**2)
        candidates = np.stack([flat * np.cos(angle), flat * np.sin(angle), height], -1)
        if chosen:
            gaps = np.linalg.norm(candidates[:, None] - np.array(chosen)[None], axis=-1).min(1)
            chosen.append(candidates[int(gaps.argmax())])
        else:
            chosen.append(candidates[0])
    return [camera(RADIUS * place, size, f"{folder}/r_{k}") for k, place in enumerate(chosen)]


def turntable(count: int, size: int, folder: str) -> list[Camera]:
    """Once around at one height, evenly spaced."""
    cameras = []
    for k in range(count):
        angle = 2.0 * math.pi * k / count - 0.5 * math.pi
        place = np.array([math.cos(TURNTABLE) * math.cos(angle), math.cos(TURNTABLE) * math.sin(angle), math.sin(TURNTABLE)])
        cameras.append(camera(RADIUS * place, size, f"{folder}/r_{k}"))
    return cameras
