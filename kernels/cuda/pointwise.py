"""``evaluate`` and ``evaluate_density``: an encoding, then the networks."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from ..lowered import GridEncoding, LayeredEncoding, Lowered
from ..reference import Evaluation, truncated_exp
from ..reference_march import inside_unit, to_unit
from .field import grid_field
from .grid import why_not_grid
from .network import why_not_networks
from .runtime import serves


def supports(lowered: Lowered) -> str | None:
    """Why these kernels cannot evaluate ``lowered``, or None."""
    encoding = lowered.encoding
    if isinstance(encoding, LayeredEncoding):
        return "edited scenes have no Triton kernel"
    if lowered.saliency is not None:
        return "the saliency gate has no Triton kernel"
    if isinstance(encoding, GridEncoding):
        return why_not_grid(encoding.layout) or why_not_networks(lowered.density_head, lowered.color_head)
    return f"{type(encoding).__name__} has no Triton kernel"


def tensors_of(lowered: Lowered) -> tuple[Tensor, ...]:
    """What a field is made of."""
    encoding = lowered.encoding
    own: tuple[Tensor, ...] = (encoding.table,) if isinstance(encoding, GridEncoding) else ()
    return (*own, *lowered.density_head, *lowered.color_head)


def _served(lowered: Lowered, positions: Tensor) -> bool:
    if (positions.requires_grad and torch.is_grad_enabled()) or supports(lowered) is not None:
        return False
    return serves(positions, *tensors_of(lowered))


def geometry(lowered: Lowered, unit: Tensor, rays: Tensor | None = None, limit: Tensor | None = None) -> Tensor:
    """Raw log density [N] at unit coordinates [N, 3]."""
    assert isinstance(lowered.encoding, GridEncoding)
    return grid_field(unit, lowered.encoding, lowered.density_head, limit=limit)[0]


def evaluate(lowered: Lowered, positions: Tensor, directions: Tensor) -> Evaluation:
    """Both blocks at positions [N, 3] seen along unit directions [N, 3]; see :func:`reference.evaluate`."""
    if not _served(lowered, positions) or directions.requires_grad:
        return reference.evaluate(lowered, positions, directions)
    unit = to_unit(positions, lowered.lower, lowered.upper, lowered.unbounded)
    gate = inside_unit(unit).to(unit.dtype)
    assert isinstance(lowered.encoding, GridEncoding)
    s, features, rgb = grid_field(unit, lowered.encoding, lowered.density_head, lowered.color_head, directions.contiguous(), features=True)
    return Evaluation(s, gate, features, rgb)


def evaluate_density(lowered: Lowered, positions: Tensor) -> Tensor:
    """gate * exp(s) at positions [N, 3], per normalised length, [N]; see :func:`reference.evaluate_density`."""
    if not _served(lowered, positions):
        return reference.evaluate_density(lowered, positions)
    unit = to_unit(positions, lowered.lower, lowered.upper, lowered.unbounded)
    return inside_unit(unit).to(unit.dtype) * truncated_exp(geometry(lowered, unit))
