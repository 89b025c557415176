"""Surface normals of any field, from its density alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..representations.field import Field

CHUNK = 1 << 14
"""Positions whose six neighbours are evaluated together."""


def density_normals(field: Field, positions: Tensor, density: Callable[[Tensor], Tensor]) -> Tensor:
    """Unit normals [N, 3] in world axes at positions [N, 3]: where density falls fastest; zero where it is constant.

    Central differences over half an occupancy cell on either side, so that every family answers at
    the same scale; in contracted space the step grows as the cells do.

    ``density`` answers at positions [M, 3] with [M]: ``field.density`` or a faster substitute.
    """
    if positions.shape[0] == 0:
        return torch.zeros_like(positions)
    return torch.cat([_normals(field, part, density) for part in torch.split(positions, CHUNK)])


def _normals(field: Field, positions: Tensor, density: Callable[[Tensor], Tensor]) -> Tensor:
    space = field.space
    size = positions.new_tensor(space.size)
    step = (0.5 / field.occupancy.resolution) * size.max().expand(positions.shape[0])
    if space.unbounded:
        lower = positions.new_tensor(space.lower)
        distance = (2.0 * (positions - lower) / size - 1.0).abs().amax(-1).clamp_min(1.0)
        # Twice the box's side spans the unit cube, and a cell at contracted radius n is about n times as wide.
        step = 2.0 * step * distance
    offsets = torch.eye(3, dtype=positions.dtype, device=positions.device)
    offsets = torch.cat([offsets, -offsets])
    around = positions[:, None] + step[:, None, None] * offsets
    values = density(around.reshape(-1, 3)).reshape(-1, 2, 3)
    slope = values[:, 1] - values[:, 0]
    length = slope.norm(dim=-1, keepdim=True)
    return torch.where(length > 0.0, slope / length.clamp_min(torch.finfo(slope.dtype).tiny), torch.zeros_like(slope))
