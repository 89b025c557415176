"""The definition of an edited scene: layers of fields whose densities add (see ``lowered.LayeredEncoding``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .lowered import EMPTY, SPHERE, Affine, Layer, RegionTest
from .reference_march import inside_unit

Source = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""positions [N, 3] and directions [N, 3] in a source's world (None: no colours wanted) -> its density [N] and rgb [N, 3] or None."""


def affine(matrix: Affine, x: Tensor) -> Tensor:
    """The map of ``matrix`` at x [..., 3]."""
    m = torch.tensor(matrix, dtype=x.dtype, device=x.device).view(3, 4)
    return x @ m[:, :3].t() + m[:, 3]


def inside_region(region: RegionTest, positions: Tensor) -> Tensor:
    """Whether scene positions [N, 3] lie in a region, bool [N]; its surface belongs to it, NaN does not."""
    local = affine(region.matrix, positions)
    return local.square().sum(-1) <= 1.0 if region.shape == SPHERE else local.abs().amax(-1) <= 1.0


def occupied(bits: Tensor, unit: Tensor) -> Tensor:
    """Whether unit coordinates [N, 3] lie in a set cell of bits [X, Y, Z], bool [N]."""
    sizes = torch.tensor(bits.shape, device=unit.device)
    cell = torch.minimum((unit.nan_to_num(-1.0).clamp(0.0, 1.0) * sizes).long(), sizes - 1)
    index = (cell[:, 0] * sizes[1] + cell[:, 1]) * sizes[2] + cell[:, 2]
    return bits.reshape(-1).index_select(0, index) & inside_unit(unit)


def visible(layer: Layer, positions: Tensor) -> Tensor:
    """Where a layer's conditions hold, bool [N]."""
    seen = torch.ones(positions.shape[0], dtype=torch.bool, device=positions.device)
    for region, inside in layer.conditions:
        seen &= inside_region(region, positions) == inside
    return seen


def layered(
    layers: Sequence[Layer],
    sources: Sequence[Source],
    positions: Tensor,  # [N, 3] of the scene
    directions: Tensor | None,  # [N, 3] unit length; None: no colours
) -> tuple[Tensor, Tensor]:
    """Density [N] per the scene's normalised length and rgb [N, 3] (zeros without directions) of an edited scene."""
    density = positions.new_zeros(positions.shape[0])
    rgb = positions.new_zeros(positions.shape)
    for layer in layers:
        index = visible(layer, positions).nonzero()[:, 0]
        if not index.numel():
            continue
        here = positions.index_select(0, index)
        view = None
        if directions is not None:
            linear = torch.tensor(layer.matrix, dtype=positions.dtype, device=positions.device).view(3, 4)[:, :3]
            view = torch.nn.functional.normalize(directions.index_select(0, index) @ linear.t(), dim=-1)
        found, color = sources[layer.source](affine(layer.matrix, here), view)
        found = layer.factor * found
        density = density.index_add(0, index, found)
        if color is not None:
            for region, tint in layer.tints:
                color = torch.where(inside_region(region, here)[:, None], affine(tint, color).clamp(0.0, 1.0), color)
            rgb = rgb.index_add(0, index, found[:, None] * color)
    return density, rgb / density.clamp_min(1e-30)[:, None]


def log_of(density: Tensor) -> tuple[Tensor, Tensor]:
    """(raw log density, gate) of a density [N]: ``EMPTY`` and 0 where there is none."""
    gate = density > 0.0
    return torch.where(gate, density, torch.ones_like(density)).log().where(gate, torch.full_like(density, EMPTY)), gate.to(density.dtype)
