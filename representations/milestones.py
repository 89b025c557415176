"""What coarse-to-fine families do when training passes a mark."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .field import Field
from .space import Space, Vec3


def increasing_shares(marks: Sequence[float]) -> bool:
    """Whether ``marks`` are shares of a training, in order."""
    return all(0.0 <= mark <= 1.0 for mark in marks) and list(marks) == sorted(marks)


def marks_passed(marks: Sequence[float], progress: float) -> int:
    """How many of the increasing ``marks`` lie at or before ``progress``."""
    return sum(1 for mark in marks if progress >= mark)


def voxels_between(start: int, final: int, share: float) -> float:
    """Number of voxels on the geometric way from start^3 to final^3."""
    return math.exp(3.0 * (math.log(start) * (1.0 - share) + math.log(final) * share))


def grid_resolution(size: Vec3, voxels: float) -> tuple[int, int, int]:
    """Vertices per axis of a grid of about ``voxels`` cubic voxels over a box (TensoRF's N_to_reso)."""
    edge = (size[0] * size[1] * size[2] / voxels) ** (1.0 / 3.0)
    x, y, z = (min(2048, max(2, int(s / edge + 1e-6))) for s in size)
    return x, y, z


def sample_axes(old: Space, new: Space, grid: tuple[int, int, int], device: torch.device) -> list[Tensor]:
    """Unit coordinates, in the old space, of the vertices along each axis of a grid over the new one."""
    axes = []
    for axis, count in enumerate(grid):
        low = (new.lower[axis] - old.lower[axis]) / old.size[axis]
        high = (new.upper[axis] - old.lower[axis]) / old.size[axis]
        axes.append((torch.linspace(0.0, 1.0, count, device=device) * (high - low) + low).clamp(0.0, 1.0))
    return axes


def occupied_box(field: Field, margin: int = 1, least_gain: float = 0.1) -> Space | None:
    """The part of a bounded field's box that its occupancy calls occupied, ``margin`` cells wider.

    None where that would save less than ``least_gain`` of the volume, or where nothing is occupied.
    """
    bounds = field.occupancy.bounds()
    if bounds is None:
        return None
    pad = margin / field.occupancy.resolution
    lower, upper = (bounds[0] - pad).clamp_min(0.0), (bounds[1] + pad).clamp_max(1.0)
    if float((upper - lower).prod()) > 1.0 - least_gain:
        return None
    low, high = (tuple(field.space.from_unit(corner.double()).tolist()) for corner in (lower, upper))
    return Space(low, high, field.space.unbounded)


@torch.no_grad()
def rescale_density(field: Field, new: Space) -> float:
    """Move a field into a smaller box: its occupancy, its space, the normalised lengths in its metadata.

    Density is per normalised length, and that length changes with the box.  Returns what must be added to
    the raw log density for the picture to stay the same.
    """
    old = field.space
    field.occupancy.remap(old, new)
    field.space = new
    if "near" in field.metadata:
        field.metadata["near"] *= new.scale / old.scale
    return math.log(old.scale / new.scale)
