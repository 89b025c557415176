"""``grid_encode``: the multi-resolution grid, and the adding of its gradient (Instant-NGP, section 3)."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from ..lowered import DENSE, HASHED, TILED, GridLayout
from .maths import position
from .runtime import integers, power, programs, serves
from .shadow import gradient_of, stored

BLOCK = 128
_HASHED = tl.constexpr(HASHED)
_TILED = tl.constexpr(TILED)


@triton.jit
def cells(ux, uy, uz, levels, LP: tl.constexpr):
    """Cell [B, LP] of clamped unit coordinates [B] on every level, and where in it they lie."""
    level = tl.arange(0, LP)[None, :]
    last = tl.load(levels + level) - 1
    scale = (last + 1).to(tl.float32)
    x, y, z = ux[:, None] * scale, uy[:, None] * scale, uz[:, None] * scale
    i, j, k = tl.minimum(x.to(tl.int32), last), tl.minimum(y.to(tl.int32), last), tl.minimum(z.to(tl.int32), last)
    return i, j, k, x - i.to(tl.float32), y - j.to(tl.float32), z - k.to(tl.float32)


@triton.jit
def rows(i, j, k, levels, LP: tl.constexpr, TILES: tl.constexpr):
    """Row of the table [B, LP] of a vertex on every level; see ``GridLayout``. A hashed level's rows are a power of two."""
    level = tl.arange(0, LP)[None, :]
    side = tl.load(levels + level) + 1
    start = tl.load(levels + LP + level)
    size = tl.load(levels + 2 * LP + level)
    kind = tl.load(levels + 3 * LP + level)
    hashed = i.to(tl.uint32) ^ (j.to(tl.uint32) * 2654435761) ^ (k.to(tl.uint32) * 805459861)
    hashed = (hashed & (size - 1).to(tl.uint32)).to(tl.int32)
    flat = i + side * (j + side * k)
    if TILES:
        wide = i.to(tl.int64) + side.to(tl.int64) * (j.to(tl.int64) + side.to(tl.int64) * k.to(tl.int64))
        flat = tl.where(kind == _TILED, (wide % size.to(tl.int64)).to(tl.int32), flat)
    return start + tl.where(kind == _HASHED, hashed, flat)


@triton.jit
def corner_weight(x, y, z, CORNER: tl.constexpr):
    wx = x if CORNER & 1 else 1.0 - x
    wy = y if CORNER & 2 else 1.0 - y
    wz = z if CORNER & 4 else 1.0 - z
    return wx * wy * wz


@triton.jit
def encode(table, levels, ux, uy, uz, valid, LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr,
    B: tl.constexpr,
):  # fmt: skip
    """Features [B, LP * F] at clamped unit coordinates [B], zero beyond LEVELS * F and where not ``valid`` [B]."""
    i, j, k, x, y, z = cells(ux, uy, uz, levels, LP)
    known = valid[:, None] & (tl.arange(0, LP)[None, :] < LEVELS)
    feature = tl.arange(0, F)[None, None, :]
    total = tl.zeros((B, LP, F), tl.float32)
    for corner in tl.static_range(8):
        row = rows(i + (corner & 1), j + (corner >> 1 & 1), k + (corner >> 2 & 1), levels, LP, TILES)
        value = tl.load(table + row[:, :, None] * F + feature, mask=known[:, :, None], other=0.0)
        total += corner_weight(x, y, z, corner)[:, :, None] * value.to(tl.float32)
    return tl.reshape(total, (B, LP * F))


@triton.jit
def scatter(
    grad, levels, ux, uy, uz, dx, valid, LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr, B: tl.constexpr
):
    """Adds the transpose of :func:`encode` of dx [B, LP * F] to ``grad``."""
    i, j, k, x, y, z = cells(ux, uy, uz, levels, LP)
    known = valid[:, None] & (tl.arange(0, LP)[None, :] < LEVELS)
    feature = tl.arange(0, F)[None, None, :]
    share = tl.reshape(dx, (B, LP, F))
    for corner in tl.static_range(8):
        row = rows(i + (corner & 1), j + (corner >> 1 & 1), k + (corner >> 2 & 1), levels, LP, TILES)
        added = corner_weight(x, y, z, corner)[:, :, None] * share
        tl.atomic_add(grad + row[:, :, None] * F + feature, added, mask=known[:, :, None], sem="relaxed")


@triton.jit(do_not_specialize=["count"])
def encode_kernel(
    unit, table, levels, out, count, limit,
    LIMITED: tl.constexpr, LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """out [N, LEVELS * F] of unit [N, 3]; only the first ``limit`` (in memory) rows where LIMITED."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    width: tl.constexpr = LEVELS * F
    column = tl.arange(0, LP * F)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        ux, uy, uz = position(unit, at, valid)
        x = encode(table, levels, ux, uy, uz, valid, LEVELS, LP, F, TILES, B)
        tl.store(out + at[:, None] * width + column, x, mask=valid[:, None] & (column < width))


@triton.jit(do_not_specialize=["count"])
def scatter_kernel(
    unit, dout, levels, grad, count, limit,
    LIMITED: tl.constexpr, LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Adds to grad [rows, F] what dout [N, LEVELS * F] at unit [N, 3] asks of the table."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    width: tl.constexpr = LEVELS * F
    column = tl.arange(0, LP * F)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        ux, uy, uz = position(unit, at, valid)
        dx = tl.load(dout + at[:, None] * width + column, mask=valid[:, None] & (column < width), other=0.0).to(tl.float32)
        scatter(grad, levels, ux, uy, uz, dx, valid, LEVELS, LP, F, TILES, B)


@cache
def shape_of(layout: GridLayout) -> dict[str, Any]:
    """What kernels want to know of a layout at compile time; the padded width is at least 16, as products need."""
    levels, features = len(layout.resolutions), layout.features
    return {
        "LEVELS": levels,
        "LP": power(levels, max(1, 16 // features)),
        "F": features,
        "TILES": TILED in layout.kinds,
    }


def levels_of(layout: GridLayout, device: torch.device) -> Tensor:
    """Resolution, first row, rows and kind of every level, int32 [4, LP]; levels that only pad are one dense cell."""
    missing = shape_of(layout)["LP"] - len(layout.resolutions)
    sizes = [b - a for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]
    parts = (layout.resolutions, 1), (layout.offsets[:-1], 0), (tuple(sizes), 8), (layout.kinds, DENSE)
    return integers(tuple(n for numbers, other in parts for n in (*numbers, *([other] * missing))), device)


def why_not_grid(layout: GridLayout) -> str | None:
    """Why kernels cannot read a grid, or None."""
    if layout.features not in (1, 2, 4, 8):
        return f"grids of {layout.features} numbers a row have no Triton kernel"
    sizes = [b - a for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]
    if any(kind == HASHED and size & (size - 1) for kind, size in zip(layout.kinds, sizes, strict=True)):
        return "a hashed level's rows are no power of two"
    if layout.offsets[-1] * layout.features >= 1 << 31:
        return "the table has more than 2^31 numbers"
    return None


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, table: Tensor, layout: GridLayout, limit: Tensor | None, in_place: bool) -> Tensor:
        out = (torch.empty if limit is None else torch.zeros)(unit.shape[0], layout.width, device=unit.device)
        levels, shape = levels_of(layout, unit.device), shape_of(layout)
        grid = programs(triton.cdiv(unit.shape[0], BLOCK), unit.device)
        if unit.shape[0]:
            encode_kernel[grid](unit, stored(table), levels, out, unit.shape[0], limit, LIMITED=limit is not None, B=BLOCK, **shape)
        ctx.save_for_backward(unit, table)
        ctx.layout, ctx.limit, ctx.in_place = layout, limit, in_place
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> Any:  # type: ignore[override]
        unit, table = ctx.saved_tensors
        grad, returned = gradient_of(table, ctx.in_place)
        levels, shape = levels_of(ctx.layout, unit.device), shape_of(ctx.layout)
        grid = programs(triton.cdiv(unit.shape[0], BLOCK), unit.device)
        if unit.shape[0]:
            scatter_kernel[grid](
                *(unit, dout.contiguous(), levels, grad, unit.shape[0], ctx.limit),
                LIMITED=ctx.limit is not None, B=BLOCK, num_warps=8, **shape,
            )  # fmt: skip
        return None, returned, None, None, None


def grid_encode(
    unit: Tensor,  # [N, 3]
    table: Tensor,  # [rows, F] float32
    layout: GridLayout,
    limit: Tensor | None = None,  # [1] how many rows of ``unit`` count, where only the device knows; the others give zeros
) -> Tensor:
    """Multi-resolution grid lookup [N, L * F]; see :func:`reference.grid_encode`. Differentiable in ``table``."""
    from ..dispatch import gradients_are_in_place

    wanted = unit.requires_grad and torch.is_grad_enabled()
    if not serves(unit, table) or not table.is_contiguous() or wanted or why_not_grid(layout) is not None:
        return reference.grid_encode(unit, table, layout)
    out: Tensor = _Encode.apply(unit.detach().contiguous(), table, layout, limit, gradients_are_in_place())
    return out
