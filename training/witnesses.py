"""Which cells several cameras see change: what one view alone calls moving may lie anywhere along its rays."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..render.camera import Camera
from ..representations.space import Space

WITNESSES = 2
"""Cameras that must see a cell change: fewer cannot say how far away it is ..."""
AGREEING = 0.5
"""... and so many of all that have it in view; before the others something else may stand."""
LEVELS = 6
"""A cell is compared with the pixels up to 2^level away that it covers, at most 2^(LEVELS - 1)."""


@torch.no_grad()
def witnessed(cells: Tensor, space: Space, cameras: list[Camera], changing: list[Tensor]) -> Tensor:
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
        agreeing[seen] += dilations(picture)[level, y, x].long()
    enough = (agreeing >= WITNESSES) & (agreeing >= torch.ceil(AGREEING * viewing))
    found = torch.zeros_like(cells)
    found[tuple(index[enough.to(index.device)].unbind(1))] = True
    return found


def _radius(unit: Tensor, space: Space, resolution: int) -> Tensor:
    """Half the diagonal [N] of cells, world units; of those outside an unbounded space's box, which are long, across."""
    half = 0.5 * 3.0**0.5 * max(space.size) / resolution
    if not space.unbounded:
        return torch.full_like(unit[:, 0], half)
    contracted = (4.0 * unit - 2.0).abs().amax(-1).clamp_min(1.0)
    return 2.0 * half / (2.0 - contracted)


def dilations(picture: Tensor) -> Tensor:
    """Bool [LEVELS, H, W]: whether a pixel of ``picture`` [H, W] at most 2^level away, along each axis, is true."""
    grown, found, reach = picture.float()[None, None], [], 0
    for level in range(LEVELS):
        by = 2**level - reach
        grown = F.max_pool2d(grown, (2 * by + 1, 1), stride=1, padding=(by, 0))
        grown = F.max_pool2d(grown, (1, 2 * by + 1), stride=1, padding=(0, by))
        reach = 2**level
        found.append(grown[0, 0] > 0.0)
    return torch.stack(found)
