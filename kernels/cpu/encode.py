"""``grid_encode``: the multi-resolution grid on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..dispatch import gradients_are_in_place
from ..lowered import GridLayout
from .gradients import table_gradients
from .grid import encode_grid, scatter_grid
from .jit import TILE, device, kernel
from .marching import array32
from .plan import flat
from .pool import launch
from .simd import fetch_add

_F0, _F1 = np.float32(0.0), np.float32(1.0)
_EACH = 16


@device
def tile_of(unit, first, tile):  # type: ignore[no-untyped-def]
    """Rows first.. of unit [N, 3], clamped to [0, 1], as a tile [3, 64]; past the end the last row repeats."""
    for s in range(TILE):
        at = min(first + s, unit.shape[0] - 1)
        for axis in range(3):
            u = unit[at, axis]
            tile[axis * TILE + s] = min(u, _F1) if u > _F0 else _F0


@kernel
def _encode(table, features, resolutions, offsets, kinds, unit, out, counter):  # type: ignore[no-untyped-def]
    width = resolutions.shape[0] * features
    tile, x = np.zeros(3 * TILE, np.float32), np.zeros(width * TILE, np.float32)
    rows, work = np.zeros(8 * TILE, np.int32), np.zeros(8 * TILE, np.float32)
    while True:
        start = fetch_add(counter, 0, _EACH) * TILE
        if start >= unit.shape[0]:
            break
        for first in range(start, min(start + _EACH * TILE, unit.shape[0]), TILE):
            tile_of(unit, first, tile)
            encode_grid(table, features, resolutions, offsets, kinds, tile, 0, x, 0, rows, work)
            for s in range(min(TILE, unit.shape[0] - first)):
                for f in range(width):
                    out[first + s, f] = x[f * TILE + s]


@kernel
def _scatter(grad, features, resolutions, offsets, kinds, unit, dout, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the levels, which are disjoint; sums in the order of the samples."""
    width = resolutions.shape[0] * features
    tile, dx = np.zeros(3 * TILE, np.float32), np.zeros(width * TILE, np.float32)
    rows, work = np.zeros(8 * TILE, np.int32), np.zeros(8 * TILE, np.float32)
    while True:
        level = fetch_add(counter, 0, 1)
        if level >= resolutions.shape[0]:
            break
        for first in range(0, unit.shape[0], TILE):
            here = min(TILE, unit.shape[0] - first)
            tile_of(unit, first, tile)
            for s in range(here):
                for f in range(level * features, (level + 1) * features):
                    dx[f * TILE + s] = dout[first + s, f]
            scatter_grid(grad, features, resolutions, offsets, kinds, level, tile, 0, dx, 0, here, rows, work)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: np.ndarray, table: Tensor, layout: GridLayout, in_place: bool) -> Tensor:
        arrays = tuple(np.array(part, np.int64) for part in (layout.resolutions, layout.offsets, layout.kinds))
        out = torch.empty(unit.shape[0], layout.width)
        launch(
            _encode,
            flat(table),
            layout.features,
            *arrays,
            unit,
            out.numpy(),
            np.zeros(1, np.int64),
            most=-(-unit.shape[0] // (TILE * _EACH)),
        )
        ctx.unit, ctx.layout, ctx.arrays, ctx.in_place = unit, layout, arrays, in_place
        ctx.save_for_backward(table)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (arrays, returned) = table_gradients(ctx.saved_tensors, (ctx.needs_input_grad[1],), ctx.in_place)
        if arrays is not None:
            levels = len(ctx.layout.resolutions)
            launch(_scatter, arrays[0], ctx.layout.features, *ctx.arrays, ctx.unit, array32(gradient), np.zeros(1, np.int64), most=levels)
        return None, returned[0], None, None


def grid_encode(
    unit: Tensor,  # [N, 3]
    table: Tensor,  # [rows, F] float32
    layout: GridLayout,
) -> Tensor:
    """Multi-resolution grid lookup [N, L * F]; see :func:`reference.grid_encode`. Differentiable in ``table``."""
    plain = unit.dtype == torch.float32 and table.dtype == torch.float32 and table.is_contiguous() and table.device.type == "cpu"
    if not plain or (unit.requires_grad and torch.is_grad_enabled()):
        return reference.grid_encode(unit, table, layout)
    return _Encode.apply(array32(unit), table, layout, gradients_are_in_place())
