"""``vm_products`` and ``cp_products`` on their own, behind torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..dispatch import gradients_are_in_place
from .cp import lines_cells, lines_products, lines_scatter
from .encode import tile_of
from .factors import mode_cells, mode_products, mode_scatter
from .gradients import table_gradients
from .jit import TILE, kernel
from .marching import array32
from .plan import flat
from .pool import launch
from .simd import fetch_add
from .vm import columns, factor_reason, mode_sizes

_EACH = 16
"""Tiles a thread takes at once."""

Triple = tuple[Tensor, Tensor, Tensor]


@kernel
def _vm_forward(planes, lines, sizes, channels, unit, out, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the samples: out [N * 3 C]."""
    count = unit.shape[0]
    tile, rows, work = np.zeros(3 * TILE, np.float32), np.zeros(3 * TILE, np.int32), np.zeros(3 * TILE, np.float32)
    while True:
        start = fetch_add(counter, 0, _EACH) * TILE
        if start >= count:
            break
        for first in range(start, min(start + _EACH * TILE, count), TILE):
            tile_of(unit, first, tile)
            for mode in range(3):
                mode_cells(sizes, mode, tile, 0, rows, 0, work, 0)
                to = (first * 3 + mode) * channels
                here = min(TILE, count - first)
                mode_products(planes[mode], lines[mode], sizes, mode, channels, rows, 0, work, 0, 0, here, out, to, 3 * channels, False)


@kernel
def _vm_backward(planes, lines, sizes, channels, unit, dout, grads, parts, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the columns, which are disjoint; sums in the order of the samples."""
    count = unit.shape[0]
    tile, rows, work = np.zeros(3 * TILE, np.float32), np.zeros(3 * TILE, np.int32), np.zeros(3 * TILE, np.float32)
    while True:
        part = fetch_add(counter, 0, 1)
        if part >= parts:
            break
        mode, c = part % 3, part // 3 * 16
        for first in range(0, count, TILE):
            tile_of(unit, first, tile)
            mode_cells(sizes, mode, tile, 0, rows, 0, work, 0)
            mode_scatter(
                planes[mode], lines[mode], grads[mode], grads[3 + mode], sizes, mode, channels, c, rows, 0, work, 0,
                dout, (first * 3 + mode) * channels + c, 3 * channels, min(TILE, count - first), work, 0, False,
            )  # fmt: skip


@kernel
def _cp_forward(lines, sizes, channels, unit, out, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the samples: out [N * C]."""
    count = unit.shape[0]
    tile, rows, work = np.zeros(3 * TILE, np.float32), np.zeros(3 * TILE, np.int32), np.zeros(3 * TILE, np.float32)
    while True:
        start = fetch_add(counter, 0, _EACH) * TILE
        if start >= count:
            break
        for first in range(start, min(start + _EACH * TILE, count), TILE):
            tile_of(unit, first, tile)
            lines_cells(sizes, tile, 0, rows, work)
            lines_products(lines, sizes, channels, rows, work, 0, min(TILE, count - first), out, first * channels, channels, False)


@kernel
def _cp_backward(lines, sizes, channels, unit, dout, grads, parts, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the columns, which are disjoint; sums in the order of the samples."""
    count = unit.shape[0]
    tile, rows, work = np.zeros(3 * TILE, np.float32), np.zeros(3 * TILE, np.int32), np.zeros(3 * TILE, np.float32)
    while True:
        part = fetch_add(counter, 0, 1)
        if part >= parts:
            break
        for first in range(0, count, TILE):
            tile_of(unit, first, tile)
            lines_cells(sizes, tile, 0, rows, work)
            lines_scatter(
                lines, grads, 0, sizes, channels, part * 16, rows, work, dout, first * channels + part * 16, channels,
                min(TILE, count - first), work, 0, False,
            )  # fmt: skip


def _most(count: int) -> int:
    return -(-count // (TILE * _EACH))


class _VMProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: np.ndarray, in_place: bool, *factors: Tensor) -> Tensor:
        planes, lines = factors[:3], factors[3:]
        channels, sizes = lines[0].shape[1], mode_sizes(planes, lines)
        out = torch.empty(unit.shape[0], 3 * channels)
        arrays = tuple(flat(f) for f in factors)
        launch(_vm_forward, arrays[:3], arrays[3:], sizes, channels, unit, flat(out), np.zeros(1, np.int64), most=_most(unit.shape[0]))
        ctx.unit, ctx.sizes, ctx.in_place = unit, sizes, in_place
        ctx.save_for_backward(*factors)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        factors = ctx.saved_tensors
        arrays, channels = tuple(flat(f) for f in factors), factors[3].shape[1]
        grads, returned = table_gradients(factors, ctx.needs_input_grad[2:], ctx.in_place)
        if grads is not None:
            parts = 3 * columns(channels)
            launch(
                _vm_backward, arrays[:3], arrays[3:], ctx.sizes, channels, ctx.unit, array32(gradient).reshape(-1), grads, parts,
                np.zeros(1, np.int64), most=parts,
            )  # fmt: skip
        return None, None, *returned


class _CPProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: np.ndarray, in_place: bool, *lines: Tensor) -> Tensor:
        channels, sizes = lines[0].shape[1], np.array([line.shape[0] for line in lines], np.int64)
        out = torch.empty(unit.shape[0], channels)
        arrays = tuple(flat(line) for line in lines)
        launch(_cp_forward, arrays, sizes, channels, unit, flat(out), np.zeros(1, np.int64), most=_most(unit.shape[0]))
        ctx.unit, ctx.sizes, ctx.in_place = unit, sizes, in_place
        ctx.save_for_backward(*lines)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        lines = ctx.saved_tensors
        arrays, channels = tuple(flat(line) for line in lines), lines[0].shape[1]
        grads, returned = table_gradients(lines, ctx.needs_input_grad[2:], ctx.in_place)
        if grads is not None:
            parts = columns(channels)
            launch(
                _cp_backward, arrays, ctx.sizes, channels, ctx.unit, array32(gradient).reshape(-1), grads, parts,
                np.zeros(1, np.int64), most=parts,
            )  # fmt: skip
        return None, None, *returned


def plain(unit: Tensor, *tensors: Tensor) -> bool:
    """Whether compiled code can read these: float32, contiguous, on the CPU, and no gradient of the positions wanted."""
    if unit.dtype != torch.float32 or unit.device.type != "cpu" or (unit.requires_grad and torch.is_grad_enabled()):
        return False
    return all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in tensors)


def vm_products(
    unit: Tensor,  # [N, 3]
    planes: Triple,  # mode m over axes (a, b): [R_b, R_a, C]
    lines: Triple,  # mode m over axis c: [R_c, C]
) -> Tensor:
    """Plane times line products [N, 3 C]; see :func:`reference.vm_products`. Compiled where only the factors need gradients."""
    factors = (*planes, *lines)
    if not plain(unit, *factors) or factor_reason(list(factors)) or len({f.shape[-1] for f in factors}) > 1:
        return reference.vm_products(unit, planes, lines)
    out: Tensor = _VMProducts.apply(array32(unit), gradients_are_in_place(), *factors)
    return out


def cp_products(
    unit: Tensor,  # [N, 3]
    lines: Triple,  # axis a: [R_a, C]
) -> Tensor:
    """Products of three lines [N, C]; see :func:`reference.cp_products`. Compiled where only the lines need gradients."""
    if not plain(unit, *lines) or factor_reason(list(lines)) or len({line.shape[-1] for line in lines}) > 1:
        return reference.cp_products(unit, lines)
    out: Tensor = _CPProducts.apply(array32(unit), gradients_are_in_place(), *lines)
    return out
