"""What a saliency grid leaves of space: vertices that are open, the cells between them, and those cells on other grids."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.reference_saliency import CUT
from .field import Field
from .handover import HandoverField


def grids_of(field: Field) -> tuple[Tensor | None, Tensor | None]:
    """Saliency logits [S, S, S] and, in their place after the decision, the mask [S, S, S] bool; None where there are none."""
    if not isinstance(field, HandoverField):
        return None, None
    return field.encoder.saliency_logits(), field.encoder.saliency_mask()


def open_vertices(grid: Tensor) -> Tensor:
    """Vertices [S, S, S] that keep the cells around them open, bool; ``grid`` holds logits, or is a mask already."""
    return grid if grid.dtype is torch.bool else grid > CUT


def open_cells(grid: Tensor) -> Tensor:
    """Cells [S - 1, S - 1, S - 1] with at least one open vertex, bool."""
    return torch.nn.functional.max_pool3d(open_vertices(grid)[None, None].float(), 2, stride=1)[0, 0] > 0


def mask_of(grid: Tensor, resolution: int) -> Tensor:
    """Cells of a grid over the same space that overlap an open saliency cell, bool [R, R, R]."""
    mask = open_cells(grid)
    for axis in range(3):
        cells = mask.shape[axis]
        cell = torch.arange(resolution, device=mask.device)
        first, last = cell * cells // resolution, (-(-(cell + 1) * cells // resolution) - 1).clamp(max=cells - 1)
        counts = torch.nn.functional.pad(mask.movedim(axis, 0).int().cumsum(0), (0, 0, 0, 0, 1, 0))
        mask = (counts.index_select(0, last + 1) > counts.index_select(0, first)).movedim(0, axis)
    return mask
