"""HollowNeRF's gate (Xie et al. 2023, sections 3.1 and 3.2): which parts of space a grid's features are for."""

from __future__ import annotations

import torch
from torch import Tensor

from .lowered import GridEncoding
from .reference_encode import clamp_unit, grid_encode, lattice_cell

CUT = -6.9067548
"""Logit of a saliency of 0.001: a cell whose eight vertices all lie below is pruned, reads and writes no features and has no density."""
CLOSED = -12.0
"""Logit of a vertex that pruning has shut."""
SHARPNESS = 1e4
"""Of the soft zero-skipping gate tanh(SHARPNESS * |v|): no features, no density (HollowNeRF, eq. 5)."""
_SMALLEST = 1e-24


def saliency_at(unit: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Saliency [N] in [0, 1) at unit coordinates [N, 3], and whether each lies in a cell that is not pruned, bool [N].

    ``logits`` [S, S, S], vertices at both ends of the unit interval: interpolated trilinearly, then the sigmoid; 0 in
    pruned cells. Differentiable in ``logits`` and ``unit``.
    """
    side = logits.shape[0]
    unit = clamp_unit(unit)
    cell, fraction = lattice_cell(unit, side - 1)
    flat = logits.reshape(-1)
    total, highest = torch.zeros_like(unit[:, 0]), torch.full_like(unit[:, 0], -torch.inf)
    for corner in range(8):
        step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=unit.device)
        at = cell + step
        value = flat.index_select(0, (at[:, 0] * side + at[:, 1]) * side + at[:, 2])
        total = total + value.to(unit.dtype) * torch.where(step.bool(), fraction, 1.0 - fraction).prod(-1)
        highest = torch.maximum(highest, value.detach().to(unit.dtype))
    live = highest > CUT
    return torch.where(live, torch.sigmoid(total), torch.zeros_like(total)), live


def hollow_encode(unit: Tensor, encoding: GridEncoding, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Gated features v [N, L * F], and which positions are not pruned, bool [N]."""
    saliency, live = saliency_at(unit, logits)
    return saliency[:, None] * grid_encode(unit, encoding.table, encoding.layout), live


def zero_skip(features: Tensor) -> Tensor:
    """Logarithm of the soft zero-skipping gate on the density, tanh(SHARPNESS * |v|), [N]; about -18 where v = 0."""
    norm = (features.square().sum(-1) + _SMALLEST).sqrt()
    return torch.tanh(SHARPNESS * norm).log()
