"""Occupancy from silhouettes: what is transparent in any photograph is empty space."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.scene import Scene
from ..render.camera import Camera
from ..representations.space import Space
from .areas import covered, summed_areas

COARSEST = 16
"""Cells along a side of the first grid; its survivors are halved until the finest."""
FINEST = 64
"""Finer cells copy their parent: the first updates of the occupancy grid see more than silhouettes do."""


def visual_hull(scene: Scene, split: str, space: Space, resolution: int, *, cameras: int = 48) -> Tensor:
    """Cells that no silhouette rules out, bool [R, R, R] over unit coordinates (Laurentini 1994).

    A cell is ruled out by a camera that sees all of it and sees only alpha 0 there; cells are
    judged by the square around their bounding ball's picture, so the hull never cuts into
    matter.  Coarse cells are judged first and only survivors are divided.  At most
    ``cameras`` photographs, evenly chosen, are looked at.  Bounded spaces and images with alpha only.
    """
    indices = scene.split[split]
    chosen = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, cameras).astype(int))]
    silhouettes = [summed_areas(scene.images.load(i)[..., 3] > 0) for i in chosen]
    views = [scene.cameras[i] for i in chosen]
    finest = resolution
    while finest % 2 == 0 and finest > FINEST:
        finest //= 2
    size = finest
    while size % 2 == 0 and size > COARSEST:
        size //= 2
    cells = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).reshape(-1, 3)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    while True:
        radius = 0.5 * float(np.linalg.norm(np.array(space.size) / size))
        centres = space.from_unit(torch.from_numpy((cells + 0.5) / size)).numpy()
        alive = np.ones(len(cells), bool)
        for camera, area in zip(views, silhouettes, strict=True):
            left = np.flatnonzero(alive)
            alive[left[_empty(camera, area, centres[left], radius)]] = False
        cells = cells[alive]
        if size == finest:
            break
        cells = (2 * cells[:, None] + corners).reshape(-1, 3)
        size *= 2
    hull = torch.zeros(finest, finest, finest, dtype=torch.bool)
    hull[tuple(torch.from_numpy(cells.T))] = True
    for axis in range(3):
        hull = hull.repeat_interleave(resolution // finest, axis)
    return hull


def _empty(camera: Camera, area: NDArray[np.int64], centres: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Whether the camera sees nothing but transparency around each ball, bool [N]."""
    pixels, depth = (tensor.numpy() for tensor in camera.project(centres))
    known = np.isfinite(pixels).all(-1) & (depth > 2.0 * radius)
    # A ball's picture reaches at most f * r / (z - r) from its centre's, times the obliqueness 1 / cos of the ray.
    safe = np.where(known, depth, 1.0)
    place = np.where(known[:, None], pixels, 0.0)
    tangent = np.hypot((place[:, 0] - camera.cx) / camera.fx, (place[:, 1] - camera.cy) / camera.fy)
    reach = max(camera.fx, camera.fy) * radius / np.maximum(safe - radius, 1e-9) * (1.0 + tangent**2) + 1.0
    x0, x1 = np.floor(place[:, 0] - reach).astype(np.int64), np.ceil(place[:, 0] + reach).astype(np.int64)
    y0, y1 = np.floor(place[:, 1] - reach).astype(np.int64), np.ceil(place[:, 1] + reach).astype(np.int64)
    known &= (x0 >= 0) & (y0 >= 0) & (x1 <= camera.width) & (y1 <= camera.height)
    x0, x1, y0, y1 = (np.where(known, v, 0) for v in (x0, x1, y0, y1))
    empty: NDArray[np.bool_] = known & (covered(area, x0, y0, x1, y1) == 0)
    return empty
