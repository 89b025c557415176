"""Any field as voxels, read off point by point: nothing is trained, edits become matter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import kernels
from .field import Field
from .milestones import grid_resolution
from .registry import build
from .voxels import VoxelField

_CHUNK = 1 << 16
_EPSILON = 1e-3
"""Colours are kept so far from 0 and 1, where the sigmoid's inverse is infinite."""


@torch.no_grad()
def bake(
    field: Field, resolution: int = 160, degree: int = 3, max_rows: int = 4_000_000, progress: Callable[[float], None] | None = None
) -> VoxelField:
    """A ``voxels`` field that shows what ``field`` shows (an edited field: its edited scene), with its facts and occupancy.

    At every vertex near occupied cells the density around it is averaged, and the spherical harmonics are the least-squares fit to
    the colours in evenly spread directions, before the sigmoid.

    Args:
        resolution: about resolution^3 vertices over the box; it gives way where more than ``max_rows`` would be kept.
        degree: of the spherical harmonics.
        progress: told the finished share in (0, 1].
    """
    space, device = field.space, field.device
    options = {"start": 2, "final": max(2, resolution), "marks": (), "degree": degree, "occupancy": field.occupancy.resolution}
    options["max_rows"] = max_rows
    baked = build("voxels", options, space).to(device)
    assert isinstance(baked, VoxelField)
    baked.occupancy.bits.copy_(field.occupancy.bits)
    baked.occupancy.density.copy_(field.occupancy.density)
    voxels = float(resolution) ** 3
    while True:
        grid = grid_resolution(space.size, voxels)
        axes = [torch.linspace(0.0, 1.0, count, device=device) for count in grid]
        keep = baked.near_matter(axes)
        kept = int(keep.sum())
        if kept <= max_rows:
            break
        voxels *= max(0.5, 0.98 * max_rows / kept)
    links = torch.full(grid, -1, dtype=torch.int32, device=device)
    links[keep] = torch.arange(kept, dtype=torch.int32, device=device)
    index = keep.nonzero()
    density = torch.empty(kept, device=device)
    sh = torch.empty(kept, 3 * degree**2, device=device)
    directions = even_directions(3 * degree**2).to(device)
    basis = kernels.ops(device).spherical_harmonics(directions, degree)
    fit = torch.linalg.pinv(basis.double()).float()  # [B, D]
    known = torch.empty(kept, dtype=torch.bool, device=device)
    ask = _asker(field)
    for begin in range(0, kept, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        unit = torch.stack([axis[index[part, a]] for a, axis in enumerate(axes)], -1)
        positions = space.from_unit(unit.clamp(1e-6, 1.0 - 1e-6))
        density[part] = _mean_density(field, unit, grid).clamp_min(math.exp(baked.options.empty)).log()
        known[part] = field.density(positions) > math.exp(baked.options.empty)
        total: Tensor | None = None
        for number, direction in enumerate(directions):
            rgb = ask(positions, direction.expand(positions.shape[0], 3).contiguous())
            term = torch.logit(rgb, eps=_EPSILON)[:, :, None] * fit[:, number]  # [N, 3, B]
            total = term if total is None else total + term
        assert total is not None
        sh[part] = total.reshape(-1, sh.shape[1])
        if progress is not None:
            progress(min(1.0, (begin + _CHUNK) / kept))
    _spread(sh, known, links, index)
    baked.take(links, density, sh)
    if field.background is not None:
        baked.add_background()
        assert baked.background is not None
        baked.background.copy_(field.background)
    baked.metadata = {**field.metadata, "history": [*field.metadata.get("history", []), f"baked from {field.family} into voxels"]}
    return baked


def _spread(values: Tensor, known: Tensor, links: Tensor, index: Tensor, rounds: int = 2) -> None:
    """Give rows [rows, C] nobody knows the mean of their known neighbours: what is empty has no colour, yet surfaces blend with it.

    Args:
        known: [rows] bool.
        index: [rows, 3] vertex of each row.
    """
    sizes = torch.tensor(links.shape, device=links.device)
    for _ in range(rounds):
        rows = (~known).nonzero()[:, 0]
        total, count = torch.zeros(len(rows), values.shape[1], device=links.device), torch.zeros(len(rows), 1, device=links.device)
        for step in itertools.product((-1, 0, 1), repeat=3):
            near = index[rows] + torch.tensor(step, device=links.device)
            inside = ((near >= 0) & (near < sizes)).all(-1)
            near = near.clamp_min(0).minimum(sizes - 1)
            other = links[near[:, 0], near[:, 1], near[:, 2]].long()
            there = (inside & (other >= 0) & known[other.clamp_min(0)])[:, None].float()
            total += there * values[other.clamp_min(0)]
            count += there
        found = count[:, 0] > 0
        values[rows[found]] = total[found] / count[found]
        known = known.clone()
        known[rows[found]] = True
    values[~known] = 0.0


def even_directions(count: int) -> Tensor:
    """Unit vectors [count, 3] on a Fibonacci spiral over the sphere."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1.0 - 2.0 * i / count
    angle = math.pi * (1.0 + math.sqrt(5.0)) * i
    flat = (1.0 - z * z).sqrt()
    return torch.stack([flat * angle.cos(), flat * angle.sin(), z], -1).float()


def _mean_density(field: Field, unit: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Density [N] averaged over the voxel around each vertex: logarithms interpolated between inside and outside eat surfaces away."""
    half = 0.25 / (torch.tensor(grid, device=unit.device) - 1)
    total = torch.zeros_like(unit[:, 0])
    for corner in itertools.product((-1.0, 1.0), repeat=3):
        place = unit + half * torch.tensor(corner, device=unit.device)
        total += field.density(field.space.from_unit(place.clamp(1e-6, 1.0 - 1e-6)))
    return total / 8.0


def _asker(field: Field) -> Callable[[Tensor, Tensor], Tensor]:
    """positions, directions -> rgb [N, 3], by the fused kernel where it can."""
    ops, lowered = kernels.ops(field.device), field.lower()
    if lowered is not None and ops.supports(lowered) is None:
        fused = lowered
        return lambda positions, directions: ops.evaluate(fused, positions, directions).rgb
    return lambda positions, directions: field.color(field.geometry(positions).features, directions)
