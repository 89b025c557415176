"""Voxels as the renderer reads them when nothing is learned: half precision, in an order made for looking.

The log density lies on the whole grid, so that a sample needs no links: four cache lines. Coefficients keep their links,
padded to 16: a vertex of degree 3 takes one cache line instead of two or three. Field files store the same precision.
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
from .fields import appearance_tile, color_tile, encode_tile, handover_tile, is_family, late_family
from .half import FAST, aligned, half_at, halves16
from .jit import OVERLOAD, TILE
from .plan import LOOKERS, Plan
from .simd import prefetch
from .vec16 import fma16, splat16, store16, turn
from .voxels import _VOID, ROWS, WORK, color_of_harmonics, corner_links

_F0, _F1 = np.float32(0.0), np.float32(1.0)
LARGEST = 1 << 26
"""Most vertices of a grid whose density is spread out (128 MB)."""


class HalfVoxels(NamedTuple):
    links: np.ndarray  # [X * Y * Z] int32
    sizes: np.ndarray  # [3] int64
    density: np.ndarray  # [X * Y * Z] uint16, ``empty`` where a vertex is pruned
    sh: np.ndarray  # [rows * stride] uint16
    bands: int
    stride: int  # 3 * bands, up to a multiple of 16
    empty: int  # bit pattern that no vertex with data has


late_family(HalfVoxels)


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HalfVoxels):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        sizes, density = field.sizes, field.density
        for axis in range(3):
            axis_cells(sizes[axis], unit, uoff + axis * TILE, rows, axis * TILE, work, axis * TILE)
        along_x = sizes[1] * sizes[2] if sizes[0] > 1 else 0
        along_y = sizes[2] if sizes[1] > 1 else 0
        along_z = 1 if sizes[2] > 1 else 0
        for s in range(TILE):
            at = (rows[s] * sizes[1] + rows[TILE + s]) * sizes[2] + rows[2 * TILE + s]
            prefetch(density, at)
            prefetch(density, at + along_x)
            prefetch(density, at + along_y)
            prefetch(density, at + along_x + along_y)
        void = np.uint16(field.empty)
        for s in range(TILE):
            a = (rows[s] * sizes[1] + rows[TILE + s]) * sizes[2] + rows[2 * TILE + s]
            b, c, d = a + along_x, a + along_y, a + along_x + along_y
            u, v, w = work[s], work[TILE + s], work[2 * TILE + s]
            front = density[a] != void or density[b] != void or density[c] != void or density[d] != void
            back = density[a + along_z] != void or density[b + along_z] != void or density[c + along_z] != void
            if not (front or back or density[d + along_z] != void):
                x[xoff + s] = _VOID
                continue
            low_a, low_b, low_c, low_d = half_at(density, a), half_at(density, b), half_at(density, c), half_at(density, d)
            high_a, high_b = half_at(density, a + along_z), half_at(density, b + along_z)
            high_c, high_d = half_at(density, c + along_z), half_at(density, d + along_z)
            p, q = low_a + w * (high_a - low_a), low_b + w * (high_b - low_b)
            r, t = low_c + w * (high_c - low_c), low_d + w * (high_d - low_d)
            p += u * (q - p)
            r += u * (t - r)
            x[xoff + s] = p + v * (r - p)

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, HalfVoxels):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        for i in range(TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HalfVoxels):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        corner_links(field.links, field.sizes, unit, uoff, rows, work)
        stride, channels = np.int64(field.stride), 3 * field.bands
        for i in range(8 * TILE):
            for c in range(0, stride, 32):
                prefetch(field.sh, max(np.int64(rows[i]), 0) * stride + c)
        for first in range(0, TILE, 16):
            for c in range(0, stride, 16):
                for s in range(first, first + 16):
                    total = splat16(_F0)
                    for corner in range(8):
                        row = np.int64(rows[corner * TILE + s])
                        if row >= 0:
                            total = fma16(splat16(work[corner * TILE + s]), halves16(field.sh, row * stride + c), total)
                    store16(work, WORK + (s - first) * 16, 16, total)
                turn(work, WORK, 16, work, WORK, 16)
                for row in range(min(16, channels - c)):
                    for s in range(16):
                        h[hoff + (1 + c + row) * TILE + first + s] = work[WORK + row * 16 + s]

    return compiled


@overload(color_tile, **OVERLOAD)
def _color_tile(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
    if not is_family(field, HalfVoxels):
        return None

    def compiled(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
        color_of_harmonics(field.bands, h, hoff, sh, shoff, rgb, roff)

    return compiled


def _half(values: Tensor) -> Tensor:
    """Bit patterns; what is too large for the format becomes its largest number."""
    return values.clamp(-65504.0, 65504.0).half().view(torch.int16)


_spread = Derived()
_packed = Derived()


def _density(encoding: VoxelEncoding) -> tuple[np.ndarray, int]:
    """The grid's log density, and the pattern of a pruned vertex."""
    links, density = encoding.links.detach(), encoding.density.detach()
    pattern = _half(torch.tensor(encoding.empty))
    out = aligned(links.numel())
    values = _half(density)
    values = torch.where(values == pattern, values + 1, values)  # one unit in the last place: not pruned after all
    flat = links.view(-1).long()
    spread = torch.cat([values, pattern[None]])[torch.where(flat < 0, density.shape[0], flat)]
    out[:] = spread.numpy().view(np.uint16)
    return out, int(pattern) & 0xFFFF


def _coefficients(sh: Tensor) -> np.ndarray:
    rows, channels = sh.shape
    stride = -(-channels // 16) * 16
    out = aligned(rows * stride)
    table = out.reshape(rows, stride)
    table[:, :channels] = _half(sh.detach()).numpy().view(np.uint16)
    table[:, channels:] = 0
    return out


def plan_looking(lowered: Lowered, encoding: VoxelEncoding) -> Plan | None:
    """The plan for a rendering without gradients, or None where half precision does not serve."""
    if not FAST or encoding.links.numel() > LARGEST or not encoding.sh.numel():
        return None
    density, pattern = _spread.of((encoding.links, encoding.density), lambda: _density(encoding))
    sh = _packed.of((encoding.sh,), lambda: _coefficients(encoding.sh))
    bands = encoding.sh.shape[1] // 3
    links = encoding.links
    stride = sh.shape[0] // encoding.sh.shape[0]
    field = HalfVoxels(links.view(-1).numpy(), np.array(links.shape, np.int64), density, sh, bands, stride, pattern)
    shape = Shape(1, 1 + 3 * bands, 16, ROWS, WORK + 256, 1, 1)
    return Plan(field, shape, [encoding.density, encoding.sh], [], [], 0, 1)


LOOKERS[VoxelEncoding] = plan_looking
