"""A field of networks at packed samples in one launch: grid or hand-over numbers -> log density, features, colour; and backward.

Nothing but positions is kept for the backward pass: it encodes again, which costs one more read of the table and
saves writing and reading 32 numbers a sample.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..lowered import GridEncoding, GridLayout
from .grid import encode, levels_of, scatter, shape_of
from .maths import add_weight, position, position_again, sh16
from .network import (
    add_color_first,
    color_backward,
    color_block,
    color_shape,
    color_weights,
    density_backward,
    density_block,
    density_shape,
    density_weights,
    first_of,
)
from .runtime import integers, joined, precision, programs
from .shadow import gradient_of, stored

BLOCK = 64
APART, APART_WIDE = 32, 16
"""Blocks of the backward passes where density and colour are launched apart (:func:`runtime.joined`): what 99 KB hold with hidden
layers of at most 64, and of 128."""
NO_GRID = {"LEVELS": 1, "LP": 1, "F": 1, "TILES": False}


@triton.jit
def read_numbers(numbers, at, valid):
    """Hand-over numbers [B, 16] from memory."""
    return tl.load(numbers + at[:, None] * 16 + tl.arange(0, 16)[None, :], mask=valid[:, None], other=0.0)


@triton.jit
def read_directions(directions, rays, at, valid, INDEXED: tl.constexpr, B: tl.constexpr):
    """Spherical harmonics [B, 16] of each sample's direction: that of its ray where INDEXED."""
    ray = tl.load(rays + at, mask=valid, other=0) if INDEXED else at
    x = tl.load(directions + ray * 3, mask=valid, other=0.0)
    y = tl.load(directions + ray * 3 + 1, mask=valid, other=0.0)
    z = tl.load(directions + ray * 3 + 2, mask=valid, other=0.0)
    return sh16(x, y, z, B)


@triton.jit(do_not_specialize=["count"])
def field_forward(
    unit, table, levels, numbers_in, directions, rays, d0, d1, c0, c1, c2, s, features, rgb, count, limit,
    GRID: tl.constexpr, COLOR: tl.constexpr, FEATURES: tl.constexpr, INDEXED: tl.constexpr, LIMITED: tl.constexpr, HALF: tl.constexpr,
    LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr, W: tl.constexpr, WP: tl.constexpr,
    HD: tl.constexpr, HDP: tl.constexpr, HC: tl.constexpr, HCP: tl.constexpr, HE: tl.constexpr, HEP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """s [N], features [N, 15] where FEATURES, rgb [N, 3] where COLOR, from unit [N, 3] where GRID, else from numbers_in [N, 16]."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    if GRID:
        w0, w1 = density_weights(d0, d1, W, WP, HD, HDP, HALF)
    if COLOR:
        w2, w3, w4, w5 = color_weights(c0, c1, c2, HC, HCP, HE, HEP, HALF)
    column = tl.arange(0, 16)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        if GRID:
            ux, uy, uz = position(unit, at, valid)
            x = encode(table, levels, ux, uy, uz, valid, LEVELS, LP, F, TILES, B)
            _, numbers = density_block(x, w0, w1, HALF)
        else:
            numbers = read_numbers(numbers_in, at, valid)
        tl.store(s + at, first_of(numbers), mask=valid)
        if FEATURES:
            tl.store(features + at[:, None] * 15 + column - 1, numbers, mask=valid[:, None] & (column > 0))
        if COLOR:
            sh = read_directions(directions, rays, at, valid, INDEXED, B)
            _, _, seen = color_block(numbers, sh, w2, w3, w4, w5, HALF)
            tl.store(rgb + at[:, None] * 3 + column, seen, mask=valid[:, None] & (column < 3))


@triton.jit(do_not_specialize=["count"])
def field_backward(
    unit, table, levels, numbers_in, directions, rays, d0, d1, c0, c1, c2, ds, dfeatures, drgb, dtable, dnumbers_out, dweights,
    count, limit,
    GRID: tl.constexpr, COLOR: tl.constexpr, FEATURES: tl.constexpr, INDEXED: tl.constexpr, LIMITED: tl.constexpr, HALF: tl.constexpr,
    LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr, W: tl.constexpr, WP: tl.constexpr,
    HD: tl.constexpr, HDP: tl.constexpr, HC: tl.constexpr, HCP: tl.constexpr, HE: tl.constexpr, HEP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Adds to dtable [rows, F] where GRID, else writes dnumbers_out [N, 16]; adds to dweights, the gradients of d0 d1 c0 c1 c2 in a row."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    if GRID:
        w0, w1 = density_weights(d0, d1, W, WP, HD, HDP, HALF)
        dw0, dw1 = tl.zeros((HDP, WP), tl.float32), tl.zeros((16, HDP), tl.float32)
    if COLOR:
        w2, w3, w4, w5 = color_weights(c0, c1, c2, HC, HCP, HE, HEP, HALF)
        dw2, dw3 = tl.zeros((HCP, 16), tl.float32), tl.zeros((HCP, 16), tl.float32)
        dw4, dw5 = tl.zeros((HEP, HCP), tl.float32), tl.zeros((16, HEP), tl.float32)
    column = tl.arange(0, 16)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        if GRID:
            ux, uy, uz = position(unit, at, valid)
            x = encode(table, levels, ux, uy, uz, valid, LEVELS, LP, F, TILES, B)
            hidden, numbers = density_block(x, w0, w1, HALF)
        else:
            numbers = read_numbers(numbers_in, at, valid)
        dnumbers = tl.where(column == 0, tl.load(ds + at, mask=valid, other=0.0)[:, None], 0.0)
        if FEATURES:
            dnumbers += tl.load(dfeatures + at[:, None] * 15 + column - 1, mask=valid[:, None] & (column > 0), other=0.0)
        if COLOR:
            sh = read_directions(directions, rays, at, valid, INDEXED, B)
            a, b, seen = color_block(numbers, sh, w2, w3, w4, w5, HALF)
            dseen = tl.load(drgb + at[:, None] * 3 + column, mask=valid[:, None] & (column < 3), other=0.0)
            df, p2, p3, p4, p5 = color_backward(dseen, seen, numbers, sh, a, b, w3, w4, w5, HALF)
            dnumbers += df
            dw2 += p2
            dw3 += p3
            dw4 += p4
            dw5 += p5
        if GRID:
            dx, p0, p1 = density_backward(dnumbers, x, hidden, w0, w1, HALF)
            dw0 += p0
            dw1 += p1
            ux, uy, uz = position_again(unit, at, valid)
            scatter(dtable, levels, ux, uy, uz, dx, valid, LEVELS, LP, F, TILES, B)
        else:
            tl.store(dnumbers_out + at[:, None] * 16 + column, dnumbers, mask=valid[:, None])
    place = dweights
    if GRID:
        add_weight(place, dw0, HD, W, HDP, WP)
        add_weight(place + HD * W, dw1, 16, HD, 16, HDP)
        place += HD * W + 16 * HD
    if COLOR:
        add_color_first(place, dw2, dw3, HC, HCP)
        add_weight(place + HC * 31, dw4, HE, HC, HEP, HCP)
        add_weight(place + HC * 31 + HE * HC, dw5, 3, HE, 16, HEP)


class _Field(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, unit: Tensor | None, directions: Tensor | None, rays: Tensor | None, limit: Tensor | None, layout: GridLayout | None,
        features: bool, in_place: bool, source: Tensor, heads: int, *weights: Tensor,
    ) -> Any:  # fmt: skip
        """``source`` is the table of a grid, or hand-over numbers; the first ``heads`` of ``weights`` are the density network's."""
        count, device = (source.shape[0] if unit is None else unit.shape[0]), source.device
        make = torch.empty if limit is None else torch.zeros  # what lies beyond the limit must at least be numbers
        s = make(count, device=device)
        found = make((count, 15) if features else (0, 15), device=device)
        rgb = make((count, 3) if directions is not None else (0, 3), device=device)
        ctx.layout, ctx.features, ctx.in_place, ctx.heads, ctx.limit, ctx.count = layout, features, in_place, heads, limit, count
        ctx.save_for_backward(unit, directions, rays, source, *weights)
        if count:
            inputs, sizes = _arguments(unit, directions, rays, limit, layout, features, heads, source, weights)
            field_forward[programs(triton.cdiv(count, BLOCK), device)](*inputs, s, found, rgb, count, limit, **sizes)
        ctx.set_materialize_grads(False)
        return s, found, rgb

    @staticmethod
    def backward(ctx: Any, ds: Tensor | None, dfeatures: Tensor | None, drgb: Tensor | None) -> Any:  # type: ignore[override]
        unit, directions, rays, source, *weights = ctx.saved_tensors
        device = source.device
        directions = None if drgb is None else directions
        inputs, sizes = _arguments(
            unit, directions, rays, ctx.limit, ctx.layout, dfeatures is not None and ctx.features, ctx.heads, source, tuple(weights)
        )
        ds = torch.zeros(ctx.count, device=device) if ds is None else ds.contiguous()
        used = weights if directions is not None else weights[: ctx.heads]
        dweights = torch.zeros(sum(w.numel() for w in used), device=device)
        dtable, dnumbers, returned = None, None, None
        if unit is None:
            dnumbers = returned = torch.zeros_like(source) if ctx.limit is not None else torch.empty_like(source)
        else:
            dtable, returned = gradient_of(source, ctx.in_place)
        if ctx.count:
            widest = max(sizes[name] for name in ("WP", "HDP", "HCP", "HEP"))
            block = BLOCK if joined(device) else APART if widest <= 64 else APART_WIDE
            field_backward[programs(triton.cdiv(ctx.count, block), device, 2)](
                *(*inputs, ds, _plain(dfeatures), _plain(drgb), dtable, dnumbers, dweights, ctx.count, ctx.limit),
                num_warps=8, **{**sizes, "B": block},
            )  # fmt: skip
        parts = [part.view_as(w) for part, w in zip(torch.split(dweights, [w.numel() for w in used]), used, strict=True)]
        return (*[None] * 7, returned, None, *parts, *[None] * (len(weights) - len(used)))


def _plain(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _arguments(
    unit: Tensor | None, directions: Tensor | None, rays: Tensor | None, limit: Tensor | None, layout: GridLayout | None, features: bool,
    heads: int, source: Tensor, weights: tuple[Tensor, ...],
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """What both kernels begin with, and their compile-time numbers."""
    grid = unit is not None
    density, color = weights[:heads], weights[heads:]
    d: list[Any] = [w.detach().contiguous() for w in density] or [None] * 2
    c: list[Any] = [w.detach().contiguous() for w in color] or [None] * 3
    table = stored(source) if grid else None
    levels = levels_of(layout, source.device) if layout is not None else integers((0,), source.device)
    sizes = {
        "GRID": grid, "COLOR": directions is not None, "FEATURES": features, "INDEXED": rays is not None, "LIMITED": limit is not None,
        "HALF": precision() == "half", "B": BLOCK, **(shape_of(layout) if layout is not None else NO_GRID), **density_shape(density),
        **(color_shape(color) if color else {"HC": 16, "HCP": 16, "HE": 16, "HEP": 16}),
    }  # fmt: skip
    return (unit, table, levels, None if grid else source.detach().contiguous(), directions, rays, *d, *c), sizes


def grid_field(
    unit: Tensor,  # [N, 3]
    encoding: GridEncoding,
    density: tuple[Tensor, ...],
    color: tuple[Tensor, ...] = (),
    directions: Tensor | None = None,  # [N, 3], or [R, 3] with ``rays``; None: no colour
    rays: Tensor | None = None,  # [N] int64
    features: bool = False,
    limit: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """s [N], features [N, 15] (or [0, 15]), rgb [N, 3] (or [0, 3]) of a grid and its networks; differentiable in all but positions."""
    from ..dispatch import gradients_are_in_place

    weights = (*density, *color) if directions is not None else density
    learning = torch.is_grad_enabled() and any(t.requires_grad for t in (encoding.table, *weights))
    if directions is not None and learning and not joined(encoding.table.device):
        s, found, _ = grid_field(unit, encoding, density, features=True, limit=limit)
        rgb = color_field(torch.cat([s[:, None], found], -1), color, directions, rays, limit)
        return s, (found if features else found[:0]), rgb
    return _Field.apply(  # type: ignore[no-any-return]
        unit, directions, rays, limit, encoding.layout, features, gradients_are_in_place(), encoding.table, len(density), *weights
    )


def color_field(
    numbers: Tensor,  # [N, 16]
    color: tuple[Tensor, ...],
    directions: Tensor,  # [N, 3], or [R, 3] with ``rays``
    rays: Tensor | None = None,  # [N] int64
    limit: Tensor | None = None,
) -> Tensor:
    """rgb [N, 3] of hand-over numbers seen along directions; differentiable in numbers and weights."""
    return _Field.apply(None, directions, rays, limit, None, False, False, numbers, 0, *color)[2]  # type: ignore[no-any-return]
