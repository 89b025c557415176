"""``voxel_interpolate`` on its own, behind torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..dispatch import gradients_are_in_place
from .encode import tile_of
from .factor_ops import plain
from .factors import axis_cells
from .gradients import table_gradients
from .jit import TILE, kernel
from .marching import array32
from .plan import flat
from .pool import launch
from .simd import fetch_add
from .vec16 import fma16, load16, splat16, store16
from .voxels import ROWS, WORK, corner_link, corner_links, corner_weight, gather_column, in_slab, link_reason, slab, slabs

_EACH = 16
"""Tiles a thread takes at once."""
_F0 = np.float32(0.0)


@kernel
def _forward(links, sizes, data, channels, empty, unit, out, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the samples: out [N * C]."""
    count = unit.shape[0]
    tile, rows, work = np.zeros(3 * TILE, np.float32), np.zeros(ROWS, np.int32), np.zeros(WORK, np.float32)
    while True:
        start = fetch_add(counter, 0, _EACH) * TILE
        if start >= count:
            break
        for first in range(start, min(start + _EACH * TILE, count), TILE):
            tile_of(unit, first, tile)
            corner_links(links, sizes, tile, 0, rows, work)
            here = min(TILE, count - first)
            if channels == 1:
                for s in range(here):
                    total = _F0
                    for corner in range(8):
                        row = rows[corner * TILE + s]
                        total += work[corner * TILE + s] * (data[row] if row >= 0 else empty)
                    out[first + s] = total
                continue
            for s in range(here):
                for c in range(0, channels, 16):
                    store16(out, (first + s) * channels + c, channels - c, gather_column(data, channels, c, empty, rows, work, s))


@kernel
def _backward(links, sizes, channels, unit, dout, grad, parts, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the slabs, which are disjoint; sums in the order of the samples."""
    count = unit.shape[0]
    tile, rows, work = np.zeros(3 * TILE, np.float32), np.zeros(3 * TILE, np.int32), np.zeros(3 * TILE, np.float32)
    while True:
        part = fetch_add(counter, 0, 1)
        if part >= parts:
            break
        low, high = slab(part, parts, sizes[0])
        for first in range(0, count, TILE):
            tile_of(unit, first, tile)
            for axis in range(3):
                axis_cells(sizes[axis], tile, axis * TILE, rows, axis * TILE, work, axis * TILE)
            for s in range(min(TILE, count - first)):
                if not in_slab(rows, s, low, high):
                    continue
                at = (first + s) * channels
                for corner in range(8):
                    i, row = corner_link(links, sizes, rows, s, corner)
                    if row < 0 or i < low or i >= high:
                        continue
                    w = corner_weight(work, s, corner)
                    if channels == 1:
                        grad[row] += w * dout[at]
                        continue
                    for c in range(0, channels, 16):
                        to, n = row * channels + c, channels - c
                        store16(grad, to, n, fma16(splat16(w), load16(dout, at + c, n), load16(grad, to, n)))


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: np.ndarray, links: Tensor, data: Tensor, empty: float, in_place: bool) -> Tensor:
        channels, count = data.shape[1], unit.shape[0]
        out = torch.empty(count, channels)
        sizes = np.array(links.shape, np.int64)
        launch(
            _forward, flat(links), sizes, flat(data), channels, np.float32(empty), unit, flat(out), np.zeros(1, np.int64),
            most=-(-count // (TILE * _EACH)),
        )  # fmt: skip
        ctx.unit, ctx.links, ctx.sizes, ctx.in_place = unit, links, sizes, in_place
        ctx.save_for_backward(data)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (data,) = ctx.saved_tensors
        grads, returned = table_gradients((data,), (ctx.needs_input_grad[2],), ctx.in_place)
        if grads is not None:
            parts = slabs(ctx.links)
            launch(
                _backward, flat(ctx.links), ctx.sizes, data.shape[1], ctx.unit, array32(gradient).reshape(-1), grads[0], parts,
                np.zeros(1, np.int64), most=parts,
            )  # fmt: skip
        return None, None, returned[0], None, None


def voxel_interpolate(
    unit: Tensor,  # [N, 3]
    links: Tensor,  # [X, Y, Z] int32: row of each vertex, -1 pruned
    data: Tensor,  # [rows, C]
    empty: float = 0.0,
) -> Tensor:
    """Trilinear interpolation [N, C]; see :func:`reference.voxel_interpolate`. Compiled where only ``data`` needs gradients."""
    if not plain(unit, data) or data.dim() != 2 or data.shape[1] == 0 or link_reason(links, data.shape[0]):
        return reference.voxel_interpolate(unit, links, data, empty)
    out: Tensor = _Interpolate.apply(array32(unit), links, data, empty, gradients_are_in_place())
    return out
