"""Reference encodings: what a field's tables, planes, lines and voxels say at a position. Plain PyTorch, any device and dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .lowered import DENSE, HASHED, GridLayout

_PRIMES = (1, 2654435761, 805459861)


def clamp_unit(unit: Tensor) -> Tensor:
    """Unit coordinates moved into [0, 1]; NaN becomes 0, so that every lookup below stays inside its table."""
    return torch.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)


def lattice_cell(unit: Tensor, intervals: int) -> tuple[Tensor, Tensor]:
    """Cell index (int64) and fraction in [0, 1] of clamped coordinates on a lattice of ``intervals`` equal cells.

    The upper face belongs to the last cell. The fraction carries the gradient.
    """
    if intervals == 0:
        return torch.zeros_like(unit, dtype=torch.int64), torch.zeros_like(unit)
    x = unit * intervals
    cell = x.detach().floor().clamp(0, intervals - 1)
    return cell.to(torch.int64), x - cell


def grid_rows(corner: Tensor, resolution: int, kind: int, rows: int) -> Tensor:
    """Row within its level of vertices ``corner`` [..., 3] int64; see :class:`GridLayout`."""
    i, j, k = corner.unbind(-1)
    if kind == HASHED:
        hashed = (i * _PRIMES[0]) ^ (j * _PRIMES[1] & 0xFFFFFFFF) ^ (k * _PRIMES[2] & 0xFFFFFFFF)
        return (hashed & 0xFFFFFFFF) % rows
    side = resolution + 1
    index = i + side * (j + side * k)
    return index if kind == DENSE else index % rows


def grid_encode(
    unit: Tensor,  # [N, 3]
    table: Tensor,  # [rows, F]
    layout: GridLayout,
) -> Tensor:
    """Multi-resolution grid lookup (Instant-NGP, section 3): trilinear per level, levels concatenated, [N, L * F].

    Coordinates outside [0, 1] read the nearest face. Differentiable in ``table`` and ``unit``.
    """
    unit = clamp_unit(unit)
    levels = []
    for level, (resolution, kind) in enumerate(zip(layout.resolutions, layout.kinds, strict=True)):
        start, end = layout.offsets[level], layout.offsets[level + 1]
        cell, fraction = lattice_cell(unit, resolution)
        total: Tensor | None = None
        for corner in range(8):
            step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=unit.device)
            weight = torch.where(step.bool(), fraction, 1.0 - fraction).prod(-1, keepdim=True)
            row = start + grid_rows(cell + step, resolution, kind, end - start)
            value = F.embedding(row, table) * weight.to(table.dtype)
            total = value if total is None else total + value
        assert total is not None
        levels.append(total)
    return torch.cat(levels, -1)


def sample_line(coordinate: Tensor, line: Tensor) -> Tensor:
    """Linear interpolation of ``line`` [R, C] at clamped unit coordinates [N] -> [N, C]; vertices at both ends."""
    size = line.shape[0]
    cell, fraction = lattice_cell(coordinate, size - 1)
    right = (cell + 1).clamp(max=size - 1)
    w = fraction.to(line.dtype)[:, None]
    return F.embedding(cell, line) * (1.0 - w) + F.embedding(right, line) * w


def sample_plane(a: Tensor, b: Tensor, plane: Tensor) -> Tensor:
    """Bilinear interpolation of ``plane`` [R_b, R_a, C] at clamped unit coordinates a, b [N] -> [N, C]."""
    size_b, size_a, channels = plane.shape
    cell_a, wa = lattice_cell(a, size_a - 1)
    cell_b, wb = lattice_cell(b, size_b - 1)
    next_a, next_b = (cell_a + 1).clamp(max=size_a - 1), (cell_b + 1).clamp(max=size_b - 1)
    flat = plane.reshape(-1, channels)
    wa, wb = wa.to(plane.dtype)[:, None], wb.to(plane.dtype)[:, None]
    low = F.embedding(cell_b * size_a + cell_a, flat) * (1.0 - wa) + F.embedding(cell_b * size_a + next_a, flat) * wa
    high = F.embedding(next_b * size_a + cell_a, flat) * (1.0 - wa) + F.embedding(next_b * size_a + next_a, flat) * wa
    return low * (1.0 - wb) + high * wb


PLANE_AXES = ((0, 1), (0, 2), (1, 2))
LINE_AXIS = (2, 1, 0)


def vm_products(
    unit: Tensor,  # [N, 3]
    planes: tuple[Tensor, Tensor, Tensor],  # mode m over axes (a, b): [R_b, R_a, C]
    lines: tuple[Tensor, Tensor, Tensor],  # mode m over axis c: [R_c, C]
) -> Tensor:
    """TensoRF's plane times line products (eq. 8), mode-major [N, 3 * C]. Differentiable in everything."""
    unit = clamp_unit(unit)
    products = [
        sample_plane(unit[:, a], unit[:, b], plane) * sample_line(unit[:, c], line)
        for (a, b), c, plane, line in zip(PLANE_AXES, LINE_AXIS, planes, lines, strict=True)
    ]
    return torch.cat(products, -1)


def cp_products(
    unit: Tensor,  # [N, 3]
    lines: tuple[Tensor, Tensor, Tensor],  # axis a: [R_a, C]
) -> Tensor:
    """TensoRF's CP factorisation (eq. 3): the product of three lines per channel, [N, C]. Differentiable in everything."""
    unit = clamp_unit(unit)
    x, y, z = (sample_line(unit[:, axis], line) for axis, line in enumerate(lines))
    return x * y * z


def voxel_corners(unit: Tensor, links: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, 8] (-1: pruned) and trilinear weights [N, 8] of the vertices around each position."""
    unit = clamp_unit(unit)
    cells, fractions = zip(*(lattice_cell(unit[:, axis], links.shape[axis] - 1) for axis in range(3)), strict=True)
    rows, weights = [], []
    for corner in range(8):
        index, weight = [], None
        for axis in range(3):
            bit = corner >> axis & 1
            index.append((cells[axis] + bit).clamp(max=links.shape[axis] - 1))
            w = fractions[axis] if bit else 1.0 - fractions[axis]
            weight = w if weight is None else weight * w
        assert weight is not None
        rows.append(links[index[0], index[1], index[2]].to(torch.int64))
        weights.append(weight)
    return torch.stack(rows, -1), torch.stack(weights, -1)


def voxel_interpolate(
    unit: Tensor,  # [N, 3]
    links: Tensor,  # [X, Y, Z] int32: row of each vertex, -1 pruned
    data: Tensor,  # [rows, C]
    empty: float = 0.0,
) -> Tensor:
    """Trilinear interpolation between linked vertices, [N, C]; a pruned vertex reads ``empty`` in every channel.

    Vertices lie at both ends of the unit interval. Differentiable in ``data`` and ``unit``.
    """
    rows, weights = voxel_corners(unit, links)
    total: Tensor | None = None
    for corner in range(8):
        row, weight = rows[:, corner], weights[:, corner, None].to(data.dtype)
        missing = (row < 0)[:, None]
        if data.shape[0]:
            value = torch.where(missing, torch.full_like(data[:1], empty), F.embedding(row.clamp(min=0), data))
        else:
            value = data.new_full((row.shape[0], data.shape[1]), empty)
        total = value * weight if total is None else total + value * weight
    assert total is not None
    return total


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Real spherical-harmonic basis of unit directions [N, 3], [N, degree^2]; degree 1..4 (bands 0..degree-1).

    Order and signs are instant-ngp's (tiny-cuda-nn). Differentiable in the directions.
    """
    if not 1 <= degree <= 4:
        raise ValueError(f"degree must be 1..4, got {degree}")
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree > 1:
        basis += [-0.48860251190291987 * y, 0.48860251190291987 * z, -0.48860251190291987 * x]
    if degree > 2:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575755997 * zz - 0.31539156525251999,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (xx - yy),
        ]
    if degree > 3:
        basis += [
            0.59004358992664352 * y * (yy - 3.0 * xx),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1.0 - 5.0 * zz),
            0.3731763325901154 * z * (5.0 * zz - 3.0),
            0.45704579946446572 * x * (1.0 - 5.0 * zz),
            1.4453057213202769 * z * (xx - yy),
            0.59004358992664352 * x * (3.0 * yy - xx),
        ]
    return torch.stack(basis, -1)
