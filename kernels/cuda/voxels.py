"""``voxel_interpolate``: sparse voxels (Plenoxels), and what belongs to them."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from ..reference_encode import voxel_corners
from .factors import add, along, read
from .maths import position
from .runtime import interpreted, power, programs, serves
from .shadow import stored

BLOCK = 64


@triton.jit(do_not_specialize=["count", "sx", "sy", "sz"])
def voxel_kernel(
    unit, links, data, sx, sy, sz, empty, out, dout, grad, gate, count, limit,
    MODE: tl.constexpr, LIMITED: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """MODE 0: out [N, C]; 1: adds to grad [rows, C] what dout [N, C] asks; 2: gate [N], 1 where a vertex around is linked."""
    if LIMITED:
        count = tl.minimum(count, tl.load(limit).to(tl.int32))
    channel = tl.arange(0, CP)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(count, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < count
        mask = valid[:, None] & (channel < C)
        place = at[:, None].to(tl.int64) * C + channel
        x, y, z = position(unit, at, valid)
        i0, i1, wi = along(x, sx)
        j0, j1, wj = along(y, sy)
        k0, k1, wk = along(z, sz)
        total = tl.zeros((B, CP), tl.float32)
        linked = at < 0
        if MODE == 1:
            g = tl.load(dout + place, mask=mask, other=0.0)
        for corner in tl.static_range(8):
            i = i1 if corner & 1 else i0
            j = j1 if corner & 2 else j0
            k = k1 if corner & 4 else k0
            w = (wi if corner & 1 else 1.0 - wi) * (wj if corner & 2 else 1.0 - wj) * (wk if corner & 4 else 1.0 - wk)
            row = tl.load(links + (i * sy + j) * sz + k, mask=valid, other=-1)
            there = (row >= 0)[:, None] & mask
            if MODE == 0:
                total += tl.where(there, read(data, row, channel, there, C), empty) * w[:, None]
            elif MODE == 1:
                add(grad, row, channel, g * w[:, None], there, C)
            else:
                linked = linked | (row >= 0)
        if MODE == 0:
            tl.store(out + place, total, mask=mask)
        elif MODE == 2:
            tl.store(gate + at, linked.to(tl.float32), mask=valid)


class _Voxels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, links: Tensor, data: Tensor, empty: float, limit: Tensor | None) -> Tensor:
        count, channels = unit.shape[0], data.shape[1]
        out = torch.zeros(count, channels, device=unit.device)
        ctx.save_for_backward(unit, links, data)
        ctx.limit = limit
        if count:
            voxel_kernel[programs(triton.cdiv(count, BLOCK), unit.device)](
                *(unit, links, stored(data), *links.shape, float(empty), out, None, None, None, count, limit),
                MODE=0, LIMITED=limit is not None, C=channels, CP=power(channels), B=BLOCK,
            )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> Any:  # type: ignore[override]
        unit, links, data = ctx.saved_tensors
        count, channels = unit.shape[0], data.shape[1]
        grad = torch.zeros_like(data)
        if count:
            voxel_kernel[programs(triton.cdiv(count, BLOCK), unit.device)](
                *(unit, links, None, *links.shape, 0.0, None, dout.contiguous(), grad, None, count, ctx.limit),
                MODE=1, LIMITED=ctx.limit is not None, C=channels, CP=power(channels), B=BLOCK,
            )  # fmt: skip
        return None, None, grad, None, None


def voxel_interpolate(
    unit: Tensor,  # [N, 3]
    links: Tensor,  # [X, Y, Z] int32
    data: Tensor,  # [rows, C]
    empty: float = 0.0,
    limit: Tensor | None = None,
) -> Tensor:
    """Trilinear interpolation between linked vertices, [N, C]; see :func:`reference.voxel_interpolate`. Differentiable in ``data``."""
    wanted = unit.requires_grad and torch.is_grad_enabled()
    if not serves(unit, data) or wanted or not data.is_contiguous() or not 0 < data.numel() < 1 << 31:
        return reference.voxel_interpolate(unit, links, data, empty)
    return _Voxels.apply(unit.detach().contiguous(), links.contiguous(), data, empty, limit)  # type: ignore[no-any-return]


@torch.no_grad()
def gate_of(unit: Tensor, links: Tensor) -> Tensor:
    """1 [N] where any vertex around a position is linked, else 0."""
    count = unit.shape[0]
    if unit.device.type != "cuda" and not interpreted():
        return (voxel_corners(unit, links)[0] >= 0).any(-1).to(unit.dtype)
    gate = torch.zeros(count, device=unit.device)
    if count:
        voxel_kernel[programs(triton.cdiv(count, BLOCK), unit.device)](
            *(unit.contiguous(), links.contiguous(), None, *links.shape, 0.0, None, None, None, gate, count, None),
            MODE=2, LIMITED=False, C=1, CP=1, B=BLOCK,
        )  # fmt: skip
    return gate


def sh_colors(coefficients: Tensor, directions: Tensor) -> Tensor:
    """rgb [N, 3] of spherical-harmonic coefficients [N, 3 * D^2], channel-major, seen along directions [N, 3]."""
    size = coefficients.shape[-1] // 3
    basis = reference.spherical_harmonics(directions, round(size**0.5))
    return torch.sigmoid((coefficients.reshape(-1, 3, size) * basis[:, None]).sum(-1))
