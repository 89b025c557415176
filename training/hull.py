"""Occupancy from silhouettes: what is transparent in any photograph is empty space."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.scene import Scene
from ..representations.space import Space


def visual_hull(scene: Scene, split: str, space: Space, resolution: int, *, cameras: int = 100) -> Tensor:
    """Cells that no training silhouette rules out, bool [R, R, R] over unit coordinates (Laurentini 1994).

    A cell is ruled out by a camera that sees all of it and sees only alpha 0 there; the
    silhouettes are widened by a cell's footprint, so the hull never cuts into matter.
    Bounded spaces and images with alpha only.
    """
    indices = scene.split[split]
    if len(indices) > cameras:
        indices = [indices[i] for i in np.linspace(0, len(indices) - 1, cameras).astype(int)]
    axis = (torch.arange(resolution, dtype=torch.float32) + 0.5) / resolution
    unit = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    alive = torch.arange(len(unit))
    radius = 0.5 * float(np.linalg.norm(np.array(space.size) / resolution))
    for index in indices:
        camera = scene.cameras[index]
        alpha = torch.from_numpy(np.ascontiguousarray(scene.images.load(index)[..., 3])).float()
        points = space.from_unit(unit[alive])
        pixels, depth = camera.project(points)
        closest = float(depth.min()) - radius
        if closest <= 0:
            continue  # the camera stands inside the box: cells beside it have no bounded footprint
        reach = int(np.ceil(max(camera.fx, camera.fy) * radius / closest)) + 1
        covered = F.max_pool2d(alpha[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0] > 0
        x, y = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
        seen = (x >= reach) & (x < camera.width - reach) & (y >= reach) & (y < camera.height - reach)
        inside = covered[y.clamp(0, camera.height - 1), x.clamp(0, camera.width - 1)]
        alive = alive[~seen | inside]
    hull = torch.zeros(resolution**3, dtype=torch.bool)
    hull[alive] = True
    return hull.reshape(resolution, resolution, resolution)
