"""Any field as voxels, read off point by point: nothing is trained, edits become matter."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator

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
    baked.take(links, torch.empty(kept, device=device), torch.empty(kept, 3 * degree**2, device=device))
    read_off(field, baked, progress)
    if field.background is not None:
        baked.add_background()
        assert baked.background is not None
        baked.background.copy_(field.background)
    baked.metadata = {**field.metadata, "history": [*field.metadata.get("history", []), f"baked from {field.family} into voxels"]}
    return baked


@torch.no_grad()
def seconds_to_read_off(field: Field, rows: int, degree: int, probe: int = 4096) -> float:
    """About how long :func:`read_off` takes for ``rows`` vertices, by asking for some."""
    generator = torch.Generator().manual_seed(0)
    positions = field.space.from_unit(torch.rand(probe, 3, generator=generator).to(field.device).clamp(1e-3, 1.0 - 1e-3))
    directions = even_directions(3 * degree**2).to(field.device)
    begin = time.perf_counter()
    for _ in range(9):  # around the vertex, and at it
        field.density(positions)
    for _ in _colors(field, positions, directions):
        pass
    return (time.perf_counter() - begin) * rows / probe


@torch.no_grad()
def read_off(field: Field, voxels: VoxelField, progress: Callable[[float], None] | None = None) -> None:
    """Give every row of ``voxels`` what ``field`` shows around its vertex; the two may have different boxes in one world.

    Args:
        progress: told the finished share in (0, 1].
    """
    grid, device, empty = voxels.grid, voxels.links.device, voxels.options.empty
    vertices = voxels.vertices()
    index = torch.stack([vertices // (grid[1] * grid[2]), vertices // grid[2] % grid[1], vertices % grid[2]], -1)
    size = torch.tensor(grid, device=device) - 1
    density, sh = torch.empty_like(voxels.density_data), torch.empty_like(voxels.sh_data)
    directions = even_directions(sh.shape[1]).to(device)
    basis = kernels.ops(device).spherical_harmonics(directions, voxels.options.degree)
    fit = torch.linalg.pinv(basis.double()).float()  # [B, D]
    known = torch.empty(voxels.rows, dtype=torch.bool, device=device)
    shift = math.log(field.space.scale / voxels.space.scale)  # density is per length of a field's own box
    for begin in range(0, voxels.rows, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        unit = index[part] / size
        positions = voxels.space.from_unit(unit.clamp(1e-6, 1.0 - 1e-6))
        density[part] = _mean_density(field, voxels, unit).log().add(shift).clamp_min(empty)
        known[part] = field.density(positions) > math.exp(empty)
        total: Tensor | None = None
        for number, rgb in enumerate(_colors(field, positions, directions)):
            term = torch.logit(rgb, eps=_EPSILON)[:, :, None] * fit[:, number]  # [N, 3, B]
            total = term if total is None else total + term
        assert total is not None
        sh[part] = total.reshape(-1, sh.shape[1])
        if progress is not None:
            progress(min(1.0, (begin + _CHUNK) / voxels.rows))
    _spread(sh, known, voxels.links, index)
    voxels.take(voxels.links, density, sh)


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


def _mean_density(field: Field, voxels: VoxelField, unit: Tensor) -> Tensor:
    """Density [N] averaged over the voxel around each vertex: logarithms interpolated between inside and outside eat surfaces away."""
    half = 0.25 / (torch.tensor(voxels.grid, device=unit.device) - 1)
    total = torch.zeros_like(unit[:, 0])
    for corner in itertools.product((-1.0, 1.0), repeat=3):
        place = unit + half * torch.tensor(corner, device=unit.device)
        total += field.density(voxels.space.from_unit(place.clamp(1e-6, 1.0 - 1e-6)))
    return total / 8.0


def _colors(field: Field, positions: Tensor, directions: Tensor) -> Iterator[Tensor]:
    """rgb [N, 3] at positions [N, 3], seen along each of ``directions`` [D, 3] in turn."""
    # What does not depend on the direction is asked for once.
    features = field.evaluate(positions, directions[:1].expand_as(positions).contiguous()).features if field.has_handover else None
    for direction in directions:
        along = direction.expand_as(positions).contiguous()
        yield field.evaluate(positions, along).rgb if features is None else field.color(features, along)
