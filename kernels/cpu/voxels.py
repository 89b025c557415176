"""Plenoxels' family: trilinear voxels of raw log density and spherical harmonics, linked sparsely, without a network.

A tile's x is its hand-over: the raw log density (from ``encode_tile``), then the coefficients
(from ``appearance_tile``).  Their gradients lie sample by sample in dx, ``[64, E]``.  A part of
the scatter owns a slab of vertices along x.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba.extending import overload
from torch import Tensor

from ..derived import Derived
from ..lowered import Lowered, VoxelEncoding
from .drive import Shape
from .factors import axis_cells
from .fields import (
    NOTHING,
    appearance_tile,
    color_backward,
    color_tile,
    encode_tile,
    gate_tile,
    gated_family,
    handover_backward,
    handover_tile,
    is_family,
    late_family,
    scatter_tile,
)
from .jit import OVERLOAD, TILE, device
from .maths import sigmoid32
from .plan import CHECKS, PLANNERS, Plan, flat
from .simd import prefetch
from .vec16 import fma16, load16, mul16, splat16, store16, turn

_F0, _F1 = np.float32(0.0), np.float32(1.0)
_VOID = np.float32(-1e30)
SLABS = 24
"""Parts of the scatter."""
CORNERS = 8 * TILE
ROWS, WORK = 12 * TILE, 11 * TILE
"""``rows`` and ``work`` that :func:`corner_links` needs."""


class VoxelField(NamedTuple):
    links: np.ndarray  # [X * Y * Z] int32
    sizes: np.ndarray  # [3] int64
    density: np.ndarray  # [rows]
    sh: np.ndarray  # [rows * 3 B]
    bands: int  # B
    empty: float  # float32


late_family(VoxelField)
gated_family(VoxelField)


@device
def corner_links(links, sizes, unit, uoff, rows, work):  # type: ignore[no-untyped-def]
    """rows [8, 64]: data row of each vertex around a sample, -1 where pruned; work [8, 64]: its trilinear weight. See ROWS, WORK."""
    cells, fractions = CORNERS, CORNERS
    for axis in range(3):
        axis_cells(sizes[axis], unit, uoff + axis * TILE, rows, cells + axis * TILE, work, fractions + axis * TILE)
    for s in range(TILE):
        x, y, z = work[fractions + s], work[fractions + TILE + s], work[fractions + 2 * TILE + s]
        x1, y1, z1 = _F1 - x, _F1 - y, _F1 - z
        a, b, c, d = y1 * z1, y * z1, y1 * z, y * z
        work[s], work[TILE + s], work[2 * TILE + s], work[3 * TILE + s] = x1 * a, x * a, x1 * b, x * b
        work[4 * TILE + s], work[5 * TILE + s], work[6 * TILE + s], work[7 * TILE + s] = x1 * c, x * c, x1 * d, x * d
    along_x = sizes[1] * sizes[2] if sizes[0] > 1 else 0
    along_y = sizes[2] if sizes[1] > 1 else 0
    along_z = 1 if sizes[2] > 1 else 0
    # Links and data lie far apart: have all lines of the tile on their way before the first is needed.
    for s in range(TILE):
        at = (rows[cells + s] * sizes[1] + rows[cells + TILE + s]) * sizes[2] + rows[cells + 2 * TILE + s]
        prefetch(links, at)
        prefetch(links, at + along_x)
        prefetch(links, at + along_y)
        prefetch(links, at + along_x + along_y)
    for s in range(TILE):
        at = (rows[cells + s] * sizes[1] + rows[cells + TILE + s]) * sizes[2] + rows[cells + 2 * TILE + s]
        rows[s], rows[TILE + s] = links[at], links[at + along_x]
        rows[4 * TILE + s], rows[5 * TILE + s] = links[at + along_z], links[at + along_z + along_x]
        at += along_y
        rows[2 * TILE + s], rows[3 * TILE + s] = links[at], links[at + along_x]
        rows[6 * TILE + s], rows[7 * TILE + s] = links[at + along_z], links[at + along_z + along_x]


@device
def gather_column(data, channels, c, empty, rows, work, s):  # type: ignore[no-untyped-def]
    """Up to 16 channels from c on, interpolated at sample s; pruned vertices read ``empty``."""
    total = splat16(_F0)
    for corner in range(8):
        row = np.int64(rows[corner * TILE + s])
        weight = splat16(work[corner * TILE + s])
        if row >= 0:
            total = fma16(weight, load16(data, row * channels + c, channels - c), total)
        else:
            total = fma16(weight, splat16(empty), total)
    return total


@device
def color_of_harmonics(bands, h, hoff, sh, shoff, rgb, roff):  # type: ignore[no-untyped-def]
    """rgb [3, 64] from coefficients h[1:] [3 * bands, 64] and the directions' harmonics sh [16, 64]."""
    for channel in range(3):
        for first in range(0, TILE, 16):
            total = splat16(_F0)
            at = hoff + (1 + channel * bands) * TILE + first
            for b in range(bands):
                total = fma16(load16(sh, shoff + b * TILE + first, 16), load16(h, at + b * TILE, 16), total)
            store16(rgb, roff + channel * TILE + first, 16, total)
    for i in range(3 * TILE):
        rgb[roff + i] = sigmoid32(rgb[roff + i])


@device
def slab(part, parts, size):  # type: ignore[no-untyped-def]
    """First vertex and end of a part's slab."""
    return part * size // parts, (part + 1) * size // parts


@device
def corner_link(links, sizes, rows, s, corner):  # type: ignore[no-untyped-def]
    """Data row of one vertex (in the order of :func:`corner_links`) around sample s, whose cells are in rows [3, 64]."""
    i = min(np.int64(rows[s]) + (corner & 1), sizes[0] - 1)
    j = min(np.int64(rows[TILE + s]) + (corner >> 1 & 1), sizes[1] - 1)
    k = min(np.int64(rows[2 * TILE + s]) + (corner >> 2), sizes[2] - 1)
    return i, np.int64(links[(i * sizes[1] + j) * sizes[2] + k])


@device
def corner_weight(work, s, corner):  # type: ignore[no-untyped-def]
    """Its trilinear weight, from the fractions in work [3, 64]."""
    x, y, z = work[s], work[TILE + s], work[2 * TILE + s]
    return (x if corner & 1 else _F1 - x) * (y if corner & 2 else _F1 - y) * (z if corner & 4 else _F1 - z)


@device
def in_slab(rows, s, low, high):  # type: ignore[no-untyped-def]
    """Whether a vertex around sample s may lie in the slab."""
    return rows[s] + 1 >= low and rows[s] < high


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        corner_links(field.links, field.sizes, unit, uoff, rows, work)
        density = field.density
        for i in range(CORNERS):
            prefetch(density, max(rows[i], 0))
        for s in range(TILE):
            total, found = _F0, np.int32(-1)
            for corner in range(8):
                row = rows[corner * TILE + s]
                found = max(found, row)
                total += work[corner * TILE + s] * (density[row] if row >= 0 else field.empty)
            x[xoff + s] = total if found >= 0 else _VOID

    return compiled


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        corner_links(field.links, field.sizes, unit, uoff, rows, work)
        channels = 3 * field.bands
        for i in range(CORNERS):
            for c in range(0, channels + 15, 16):
                prefetch(field.sh, max(rows[i], 0) * channels + min(c, channels - 1))
        for first in range(0, TILE, 16):
            for c in range(0, channels, 16):
                for s in range(first, first + 16):
                    store16(work, WORK + (s - first) * 16, 16, gather_column(field.sh, channels, c, _F0, rows, work, s))
                turn(work, WORK, 16, work, WORK, 16)
                for row in range(min(16, channels - c)):
                    value = load16(work, WORK + row * 16, 16)
                    store16(x, xoff + (1 + c + row) * TILE + first, 16, value)
                    store16(h, hoff + (1 + c + row) * TILE + first, 16, value)

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        for i in range((1 + 3 * field.bands) * TILE if whole else TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(gate_tile, **OVERLOAD)
def _gate_tile(field, h, hoff, inside):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, h, hoff, inside):  # type: ignore[no-untyped-def]
        for s in range(TILE):
            if h[hoff + s] < NOTHING:
                inside[s] = _F0
                h[hoff + s] = field.empty

    return compiled


@overload(color_tile, **OVERLOAD)
def _color_tile(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
        color_of_harmonics(field.bands, h, hoff, sh, shoff, rgb, roff)

    return compiled


@overload(color_backward, **OVERLOAD)
def _color_backward(field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        bands = field.bands
        for channel in range(3):
            for first in range(0, TILE, 16):
                slope = load16(drgb, droff + channel * TILE + first, 16)
                at = dhoff + (1 + channel * bands) * TILE + first
                for b in range(bands):
                    store16(dh, at + b * TILE, 16, mul16(slope, load16(sh, shoff + b * TILE + first, 16)))

    return compiled


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        numbers = 1 + 3 * field.bands
        for first in range(0, TILE, 16):
            for c in range(0, numbers, 16):
                n = min(16, numbers - c)
                for row in range(n):
                    store16(work, wkoff + row * 16, 16, load16(dh, dhoff + (c + row) * TILE + first, 16))
                turn(work, wkoff, 16, work, wkoff, 16)
                for s in range(16):
                    store16(dx, dxoff + (first + s) * numbers + c, n, load16(work, wkoff + s * 16, 16))

    return compiled


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, VoxelField):
        return None

    def compiled(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        sizes, channels = field.sizes, 3 * field.bands
        low, high = slab(part, parts, sizes[0])
        for axis in range(3):
            axis_cells(sizes[axis], unit, uoff + axis * TILE, rows, axis * TILE, work, axis * TILE)
        gdensity, gsh = grads[0], grads[1]
        for s in range(count):
            if not in_slab(rows, s, low, high):
                continue
            at = dxoff + s * (channels + 1)
            for corner in range(8):
                i, row = corner_link(field.links, sizes, rows, s, corner)
                if row < 0 or i < low or i >= high:
                    continue
                w = corner_weight(work, s, corner)
                gdensity[row] += w * dx[at]
                for c in range(0, channels, 16):
                    to, n = row * channels + c, channels - c
                    store16(gsh, to, n, fma16(splat16(w), load16(dx, at + 1 + c, n), load16(gsh, to, n)))

    return compiled


_facts = Derived()


def link_facts(links: Tensor) -> tuple[int, bool]:
    """(greatest row, whether no two vertices share a row) of links."""

    def make() -> tuple[int, bool]:
        rows = links.detach()[links.detach() >= 0]
        greatest = int(rows.max()) if rows.numel() else -1
        # More rows than vertices: whoever links that far apart is not counted, only kept to one thread.
        return greatest, greatest < 4 * links.numel() and bool((torch.bincount(rows) <= 1).all())

    found: tuple[int, bool] = _facts.of((links,), make)
    return found


def slabs(links: Tensor) -> int:
    """Parts of the scatter: vertices that share a row must not meet in two of them."""
    return min(SLABS, links.shape[0]) if link_facts(links)[1] else 1


def plan_voxels(lowered: Lowered, encoding: VoxelEncoding) -> Plan:
    bands = encoding.sh.shape[1] // 3
    numbers = 1 + 3 * bands
    field = VoxelField(
        flat(encoding.links), np.array(encoding.links.shape, np.int64), flat(encoding.density), flat(encoding.sh), bands,
        np.float32(encoding.empty),
    )  # fmt: skip
    shape = Shape(numbers, numbers, 16, ROWS, WORK + 256, 1, 1)
    return Plan(field, shape, [encoding.density, encoding.sh], [], [], 0, slabs(encoding.links))


def link_reason(links: Tensor, rows: int) -> str | None:
    """Why voxels of ``rows`` data rows have no compiled kernel, or None."""
    if links.dtype != torch.int32 or links.device.type != "cpu" or not links.is_contiguous() or links.dim() != 3:
        return "links that are not one block of int32 on the CPU have no compiled kernel"
    if links.numel() == 0:
        return "a grid without vertices has no compiled kernel"
    if link_facts(links)[0] >= rows:
        return f"links point outside their {rows} rows"
    return None


def check_voxels(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, VoxelEncoding)
    if encoding.sh.shape[1] not in (3, 12, 27, 48) or encoding.density.shape != encoding.sh.shape[:1]:
        return "coefficients of an unknown degree have no compiled kernel"
    return link_reason(encoding.links, encoding.density.shape[0])


PLANNERS[VoxelEncoding] = plan_voxels
CHECKS[VoxelEncoding] = check_voxels
