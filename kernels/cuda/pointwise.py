"""``evaluate`` and ``evaluate_density``: an encoding, then the networks, for every family."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ..lowered import CPEncoding, GridEncoding, HybridEncoding, LayeredEncoding, Lowered, VMEncoding, VoxelEncoding
from ..reference import Evaluation, truncated_exp
from ..reference_march import inside_unit, to_unit
from .factors import cp_products, vm_products
from .field import color_field, grid_field
from .grid import why_not_grid
from .network import why_not_networks
from .runtime import serves
from .voxels import gate_of, sh_colors, voxel_interpolate


def supports(lowered: Lowered) -> str | None:
    """Why these kernels cannot evaluate ``lowered``, or None."""
    encoding = lowered.encoding
    if isinstance(encoding, LayeredEncoding):
        return "edited scenes have no Triton kernel"
    if lowered.saliency is not None:
        return "the saliency gate has no Triton kernel"
    if isinstance(encoding, VoxelEncoding):
        return None
    if isinstance(encoding, HybridEncoding):
        reasons = [_branch(branch, head, lowered.color_head) for branch, head in encoding.branches]
        return next((reason for reason in reasons if reason is not None), None)
    if not isinstance(encoding, GridEncoding | VMEncoding | CPEncoding):
        return f"{type(encoding).__name__} has no Triton kernel"
    return _branch(encoding, lowered.density_head, lowered.color_head)


def _branch(encoding: Any, head: tuple[Tensor, ...], color: tuple[Tensor, ...]) -> str | None:
    if not isinstance(encoding, GridEncoding):
        return "a density network over planes has no Triton kernel" if head else why_not_networks((), color)
    if not encoding.table.is_contiguous():
        return "the table's rows do not lie one after the other in memory"
    reason = why_not_grid(encoding.layout)
    return reason or why_not_networks(head, color)


def tensors_of(value: Any) -> tuple[Tensor, ...]:
    """Every floating tensor a lowered field is made of."""
    if isinstance(value, Tensor):
        return (value,) if value.is_floating_point() else ()
    if isinstance(value, tuple):
        return tuple(t for item in value for t in tensors_of(item))
    if dataclasses.is_dataclass(value):
        return tuple(t for f in dataclasses.fields(value) for t in tensors_of(getattr(value, f.name)))
    return ()


def _numbers(encoding: Any, head: tuple[Tensor, ...], unit: Tensor, limit: Tensor | None) -> Tensor:
    """PVD's 16 numbers [N, 16] at unit coordinates, for colour; differentiable."""
    if isinstance(encoding, HybridEncoding):
        return torch.stack([_numbers(branch, own, unit, limit) for branch, own in encoding.branches]).sum(0)
    if isinstance(encoding, GridEncoding):
        s, features, _ = grid_field(unit, encoding, head, features=True, limit=limit)
        return torch.cat([s[:, None], features], -1)
    if isinstance(encoding, VMEncoding):
        color = vm_products(unit, encoding.color_planes, encoding.color_lines, limit)
    else:
        color = cp_products(unit, encoding.color_lines, limit)
    return torch.cat([_first(encoding, (), unit, limit)[:, None], color @ encoding.basis.t()], -1)


def _first(encoding: Any, head: tuple[Tensor, ...], unit: Tensor, limit: Tensor | None) -> Tensor:
    """Raw log density [N] at unit coordinates; differentiable."""
    if isinstance(encoding, HybridEncoding):
        return torch.stack([_first(branch, own, unit, limit) for branch, own in encoding.branches]).sum(0)
    if isinstance(encoding, GridEncoding):
        return grid_field(unit, encoding, head, limit=limit)[0]
    if isinstance(encoding, VoxelEncoding):
        return voxel_interpolate(unit, encoding.links, encoding.density[:, None], encoding.empty, limit)[:, 0]
    if isinstance(encoding, VMEncoding):
        return vm_products(unit, encoding.density_planes, encoding.density_lines, limit).sum(-1) + encoding.shift
    return cp_products(unit, encoding.density_lines, limit).sum(-1) + encoding.shift


def density_at(lowered: Lowered, unit: Tensor, limit: Tensor | None = None) -> Tensor:
    """Density [N] at unit coordinates [N, 3] inside the cube, per normalised length."""
    density = truncated_exp(_first(lowered.encoding, lowered.density_head, unit, limit))
    return density * gate_of(unit, lowered.encoding.links) if isinstance(lowered.encoding, VoxelEncoding) else density


def _colored(
    lowered: Lowered, unit: Tensor, directions: Tensor, rays: Tensor | None, limit: Tensor | None, features: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """s [N], features (those of a grid only if asked for), rgb [N, 3]."""
    encoding = lowered.encoding
    if isinstance(encoding, GridEncoding):
        return grid_field(unit, encoding, lowered.density_head, lowered.color_head, directions, rays, features, limit)
    if isinstance(encoding, VoxelEncoding):
        coefficients = voxel_interpolate(unit, encoding.links, encoding.sh, 0.0, limit)
        return _first(encoding, (), unit, limit), coefficients, sh_colors(coefficients, directions if rays is None else directions[rays])
    numbers = _numbers(encoding, lowered.density_head, unit, limit)
    return numbers[:, 0], numbers[:, 1:], color_field(numbers, lowered.color_head, directions, rays, limit)


def shade(lowered: Lowered, unit: Tensor, directions: Tensor, rays: Tensor, limit: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Density [N] and rgb [N, 3] of packed samples inside the cube, seen along directions [R, 3] of their rays."""
    s, _, rgb = _colored(lowered, unit, directions, rays, limit, False)
    density = truncated_exp(s)
    return density * gate_of(unit, lowered.encoding.links) if isinstance(lowered.encoding, VoxelEncoding) else density, rgb


def _served(lowered: Lowered, positions: Tensor) -> bool:
    if (positions.requires_grad and torch.is_grad_enabled()) or supports(lowered) is not None:
        return False
    return serves(positions, *tensors_of(lowered))


def _placed(lowered: Lowered, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Unit coordinates, and 1 where a position is inside and not pruned, else 0."""
    unit = to_unit(positions, lowered.lower, lowered.upper, lowered.unbounded).contiguous()
    gate = inside_unit(unit).to(unit.dtype)
    if isinstance(lowered.encoding, VoxelEncoding):
        gate = gate * gate_of(unit, lowered.encoding.links)
    return unit, gate


def evaluate(lowered: Lowered, positions: Tensor, directions: Tensor) -> Evaluation:
    """Both blocks at positions [N, 3] seen along unit directions [N, 3]; see :func:`reference.evaluate`."""
    if not _served(lowered, positions) or directions.requires_grad:
        return reference.evaluate(lowered, positions, directions)
    unit, gate = _placed(lowered, positions)
    s, features, rgb = _colored(lowered, unit, directions.contiguous(), None, None, True)
    return Evaluation(s, gate, features, rgb)


def evaluate_density(lowered: Lowered, positions: Tensor) -> Tensor:
    """gate * exp(s) at positions [N, 3], per normalised length, [N]; see :func:`reference.evaluate_density`."""
    if not _served(lowered, positions):
        return reference.evaluate_density(lowered, positions)
    unit, gate = _placed(lowered, positions)
    return gate * truncated_exp(_first(lowered.encoding, lowered.density_head, unit, None))
