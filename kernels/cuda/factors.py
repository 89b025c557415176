"""``vm_products`` and ``cp_products``: planes and lines (TensoRF), channels last, so that a vertex is one run of memory."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from ..reference_encode import LINE_AXIS, PLANE_AXES
from .maths import coordinate, position
from .runtime import power, programs, serves
from .shadow import stored

FORWARD, BACKWARD = 4096, 2048
"""Numbers a program holds of each factor: samples times padded channels."""


@triton.jit
def along(u, size):
    """Both vertices [B] around clamped coordinates on a line of ``size`` vertices, and the second's weight."""
    x = u * (size - 1).to(tl.float32)
    left = tl.maximum(tl.minimum(x.to(tl.int32), size - 2), 0)
    return left, tl.minimum(left + 1, size - 1), x - left.to(tl.float32)


@triton.jit
def read(data, vertex, channel, mask, C: tl.constexpr):
    return tl.load(data + vertex[:, None] * C + channel, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def add(grad, vertex, channel, value, mask, C: tl.constexpr):
    tl.atomic_add(grad + vertex[:, None] * C + channel, value, mask=mask, sem="relaxed")


@triton.jit
def on_line(data, size, u, channel, mask, C: tl.constexpr):
    left, right, w = along(u, size)
    return read(data, left, channel, mask, C) * (1.0 - w)[:, None] + read(data, right, channel, mask, C) * w[:, None]


@triton.jit
def add_line(grad, size, u, channel, value, mask, C: tl.constexpr):
    left, right, w = along(u, size)
    add(grad, left, channel, value * (1.0 - w)[:, None], mask, C)
    add(grad, right, channel, value * w[:, None], mask, C)


@triton.jit
def on_plane(data, sa, sb, a, b, channel, mask, C: tl.constexpr):
    a0, a1, wa = along(a, sa)
    b0, b1, wb = along(b, sb)
    low = read(data, b0 * sa + a0, channel, mask, C) * (1.0 - wa)[:, None] + read(data, b0 * sa + a1, channel, mask, C) * wa[:, None]
    high = read(data, b1 * sa + a0, channel, mask, C) * (1.0 - wa)[:, None] + read(data, b1 * sa + a1, channel, mask, C) * wa[:, None]
    return low * (1.0 - wb)[:, None] + high * wb[:, None]


@triton.jit
def add_plane(grad, sa, sb, a, b, channel, value, mask, C: tl.constexpr):
    a0, a1, wa = along(a, sa)
    b0, b1, wb = along(b, sb)
    add(grad, b0 * sa + a0, channel, value * ((1.0 - wa) * (1.0 - wb))[:, None], mask, C)
    add(grad, b0 * sa + a1, channel, value * (wa * (1.0 - wb))[:, None], mask, C)
    add(grad, b1 * sa + a0, channel, value * ((1.0 - wa) * wb)[:, None], mask, C)
    add(grad, b1 * sa + a1, channel, value * (wa * wb)[:, None], mask, C)


@triton.jit(do_not_specialize=["count", "sa", "sb", "sc", "offset"])
def plane_line_kernel(
    unit, plane, line, sa, sb, sc, out, dout, dplane, dline, count, limit, offset,
    A: tl.constexpr, BB: tl.constexpr, CC: tl.constexpr, BACK: tl.constexpr, LIMITED: tl.constexpr,
    C: tl.constexpr, CP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """One mode of VM: columns offset.. of out [N, 3 C], or where BACK adds to dplane and dline what those columns of dout ask."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    channel = tl.arange(0, CP)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        mask = valid[:, None] & (channel < C)
        a, b, c = coordinate(unit, at, A, valid), coordinate(unit, at, BB, valid), coordinate(unit, at, CC, valid)
        p = on_plane(plane, sa, sb, a, b, channel, mask, C)
        l = on_line(line, sc, c, channel, mask, C)
        place = at[:, None].to(tl.int64) * (3 * C) + offset + channel
        if BACK:
            g = tl.load(dout + place, mask=mask, other=0.0)
            add_plane(dplane, sa, sb, a, b, channel, g * l, mask, C)
            add_line(dline, sc, c, channel, g * p, mask, C)
        else:
            tl.store(out + place, p * l, mask=mask)


@triton.jit(do_not_specialize=["count", "sx", "sy", "sz"])
def lines_kernel(
    unit, lx, ly, lz, sx, sy, sz, out, dout, dx, dy, dz, count, limit,
    BACK: tl.constexpr, LIMITED: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """CP: out [N, C], or where BACK adds to dx, dy, dz."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    channel = tl.arange(0, CP)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        mask = valid[:, None] & (channel < C)
        a, b, c = position(unit, at, valid)
        x, y, z = on_line(lx, sx, a, channel, mask, C), on_line(ly, sy, b, channel, mask, C), on_line(lz, sz, c, channel, mask, C)
        place = at[:, None].to(tl.int64) * C + channel
        if BACK:
            g = tl.load(dout + place, mask=mask, other=0.0)
            add_line(dx, sx, a, channel, g * y * z, mask, C)
            add_line(dy, sy, b, channel, g * x * z, mask, C)
            add_line(dz, sz, c, channel, g * x * y, mask, C)
        else:
            tl.store(out + place, x * y * z, mask=mask)


def _blocking(channels: int, back: bool, count: int, device: torch.device) -> tuple[tuple[int], dict[str, Any]]:
    """Launch grid, and samples of a block."""
    padded = power(channels)
    block = max(1, (BACKWARD if back else FORWARD) // padded)
    return programs(triton.cdiv(count, block), device), {"BACK": back, "C": channels, "CP": padded, "B": block}


def _vm(unit: Tensor, factors: list[Tensor], out: Tensor | None, dout: Tensor | None, grads: list[Any], limit: Tensor | None) -> None:
    grid, shape = _blocking(factors[0].shape[-1], dout is not None, unit.shape[0], unit.device)
    for mode, ((a, b), c) in enumerate(zip(PLANE_AXES, LINE_AXIS, strict=True)):
        plane, line = factors[mode], factors[3 + mode]
        plane_line_kernel[grid](
            *(unit, plane, line, plane.shape[1], plane.shape[0], line.shape[0], out, dout, grads[mode], grads[3 + mode]),
            *(unit.shape[0], limit, mode * shape["C"]), A=a, BB=b, CC=c, LIMITED=limit is not None, **shape,
        )  # fmt: skip


def _cp(unit: Tensor, factors: list[Tensor], out: Tensor | None, dout: Tensor | None, grads: list[Any], limit: Tensor | None) -> None:
    grid, shape = _blocking(factors[0].shape[-1], dout is not None, unit.shape[0], unit.device)
    sizes = [f.shape[0] for f in factors]
    lines_kernel[grid](unit, *factors, *sizes, out, dout, *grads, unit.shape[0], limit, LIMITED=limit is not None, **shape)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, launch: Any, width: int, unit: Tensor, limit: Tensor | None, *factors: Tensor) -> Tensor:
        out = torch.zeros(unit.shape[0], width * factors[0].shape[-1], device=unit.device)
        if unit.shape[0]:
            launch(unit, [stored(f) for f in factors], out, None, [None] * len(factors), limit)
        ctx.launch, ctx.limit = launch, limit
        ctx.save_for_backward(unit, *factors)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> Any:  # type: ignore[override]
        unit, *factors = ctx.saved_tensors
        grads = [torch.zeros_like(f) for f in factors]
        if unit.shape[0]:
            ctx.launch(unit, [stored(f) for f in factors], None, dout.contiguous(), grads, ctx.limit)
        return None, None, None, None, *grads


def _usable(unit: Tensor, factors: tuple[Tensor, ...]) -> bool:
    wanted = unit.requires_grad and torch.is_grad_enabled()
    return serves(unit, *factors) and all(f.is_contiguous() for f in factors) and not wanted


def vm_products(
    unit: Tensor,  # [N, 3]
    planes: tuple[Tensor, Tensor, Tensor],
    lines: tuple[Tensor, Tensor, Tensor],
    limit: Tensor | None = None,
) -> Tensor:
    """TensoRF's plane times line products, mode-major [N, 3 * C]; see :func:`reference.vm_products`. Differentiable in the factors."""
    if not _usable(unit, (*planes, *lines)):
        return reference.vm_products(unit, planes, lines)
    return _Products.apply(_vm, 3, unit.detach().contiguous(), limit, *planes, *lines)  # type: ignore[no-any-return]


def cp_products(unit: Tensor, lines: tuple[Tensor, Tensor, Tensor], limit: Tensor | None = None) -> Tensor:
    """Products of three lines [N, C]; see :func:`reference.cp_products`. Differentiable in the lines."""
    if not _usable(unit, lines):
        return reference.cp_products(unit, lines)
    return _Products.apply(_cp, 1, unit.detach().contiguous(), limit, *lines)  # type: ignore[no-any-return]
