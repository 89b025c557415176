"""Which cells several cameras see change: what one view alone calls moving may lie anywhere along its rays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..render.camera import Camera
from ..representations.space import Space
from .areas import covered, summed_areas

WITNESSES = 2
"""Cameras that must see a cell change: fewer cannot say how far away it is ..."""
AGREEING = 0.5
"""... and so many of all that have it in view; before the others something else may stand."""
LEVELS = 6
"""A cell is compared with the pixels up to 2^level away that it covers, at most 2^(LEVELS - 1)."""


@torch.no_grad()
def witnessed(cells: Tensor, space: Space, cameras: Sequence[Camera], changing: Sequence[Tensor]) -> Tensor:
    """Cells [R, R, R] bool without those that too few cameras see change.

    Args:
        changing: for every camera the pixels that change over time, bool [H, W].
    """
    n = cells.shape[0]
    index = cells.nonzero()
    unit = (index + 0.5) / n
    centres = space.from_unit(unit)
    radius = _radius(unit, space, n).cpu().double()
    viewing, agreeing = torch.zeros(len(index), dtype=torch.int64), torch.zeros(len(index), dtype=torch.int64)
    for camera, picture in zip(cameras, changing, strict=True):
        xy, depth = camera.project(centres)
        inside = (depth > 0.0) & (xy[:, 0] >= 0.0) & (xy[:, 0] < camera.width) & (xy[:, 1] >= 0.0) & (xy[:, 1] < camera.height)
        seen = inside.nonzero()[:, 0]
        if not len(seen):
            continue
        covered = radius[seen] / depth[seen] * max(camera.fx, camera.fy)
        level = covered.clamp_min(1.0).log2().ceil().clamp_max(LEVELS - 1).long()
        x, y = xy[seen].long().unbind(1)
        viewing[seen] += 1
        agreeing[seen] += any_within(picture, x, y, 2**level).long()
    enough = (agreeing >= WITNESSES) & (agreeing >= torch.ceil(AGREEING * viewing))
    found = torch.zeros_like(cells)
    found[tuple(index[enough.to(index.device)].unbind(1))] = True
    return found


def _radius(unit: Tensor, space: Space, resolution: int) -> Tensor:
    """Half the diagonal [N] of cells, world units; of those outside an unbounded space's box, which are long, across."""
    half = 0.5 * 3.0**0.5 * max(space.size) / resolution
    return 2.0 * half / space.shrinking(unit) if space.unbounded else torch.full_like(unit[:, 0], half)


def any_within(picture: Tensor, x: Tensor, y: Tensor, reach: Tensor) -> Tensor:
    """Whether a pixel of ``picture`` [H, W] at most ``reach`` [N] away from pixels (x, y), along each axis, is true."""
    (height, width), (left, top, by) = picture.shape, (value.numpy() for value in (x, y, reach))
    rectangle = (left - by).clip(0), (top - by).clip(0), (left + by + 1).clip(max=width), (top + by + 1).clip(max=height)
    return torch.from_numpy(covered(summed_areas(picture.numpy()), *rectangle) > 0)
