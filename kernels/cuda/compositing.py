"""``composite``: emission and absorption along packed rays, and which samples are in front of the termination."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from ..reference import Composited
from .marching import Marched
from .runtime import programs, serves

BLOCK = 32


@triton.jit(do_not_specialize=["rays"])
def composite_forward(
    density, rgb, t, delta, offsets, termination, color, depth, opacity, weights, ahead, counts, rays, SHADE: tl.constexpr, B: tl.constexpr
):  # fmt: skip
    """Pixels, weights [M] and transmittance ``ahead`` [M] of each sample, 0 behind the termination; only ``counts`` without SHADE."""
    for block in range(tl.program_id(0), tl.cdiv(rays, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < rays
        first = tl.load(offsets + at, mask=valid, other=0)
        count = tl.load(offsets + at + 1, mask=valid, other=0) - first
        optical, through = tl.zeros((B,), tl.float32), tl.full((B,), 1.0, tl.float32)
        red, green, blue = tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32)
        far, total = tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32)
        seen = at * 0
        index = tl.max(at, 0) * 0
        alive = valid & (count > 0)
        while tl.max(alive.to(tl.int32), 0) > 0:
            i = first + index
            length = tl.load(delta + i, mask=alive, other=0.0)
            thick = tl.minimum(tl.load(density + i, mask=alive, other=0.0) * length, 100.0)
            if SHADE:
                # 1 - exp(-thick), with its digits where thick is small
                share = tl.where(thick < 1e-3, thick * (1.0 - thick * (0.5 - thick * 0.16666667)), 1.0 - tl.exp(-thick))
                w = tl.where(alive, through * share, 0.0)
                tl.store(weights + i, w, mask=alive)
                tl.store(ahead + i, through, mask=alive)
                red += w * tl.load(rgb + i * 3, mask=alive, other=0.0)
                green += w * tl.load(rgb + i * 3 + 1, mask=alive, other=0.0)
                blue += w * tl.load(rgb + i * 3 + 2, mask=alive, other=0.0)
                far += w * tl.load(t + i, mask=alive, other=0.0)
                total += w
            seen += alive.to(tl.int32)
            optical = tl.minimum(optical + thick, 100.0)
            through = tl.exp(-optical)
            index += 1
            alive = alive & (index < count) & (through >= termination)
        if SHADE:
            tl.store(color + at * 3, red, mask=valid)
            tl.store(color + at * 3 + 1, green, mask=valid)
            tl.store(color + at * 3 + 2, blue, mask=valid)
            tl.store(depth + at, far, mask=valid)
            tl.store(opacity + at, total, mask=valid)
        else:
            tl.store(counts + at, seen.to(tl.int64), mask=valid)


@triton.jit(do_not_specialize=["rays"])
def composite_backward(
    rgb, t, delta, offsets, weights, ahead, dcolor, ddepth, dopacity, dweights, ddensity, drgb, rays, B: tl.constexpr
):  # fmt: skip
    """Each ray from its last sample to its first; writes the gradients of live samples only."""
    for block in range(tl.program_id(0), tl.cdiv(rays, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < rays
        first = tl.load(offsets + at, mask=valid, other=0)
        index = tl.load(offsets + at + 1, mask=valid, other=0) - first - 1
        a = tl.load(dcolor + at * 3, mask=valid, other=0.0)
        b = tl.load(dcolor + at * 3 + 1, mask=valid, other=0.0)
        c = tl.load(dcolor + at * 3 + 2, mask=valid, other=0.0)
        d, o = tl.load(ddepth + at, mask=valid, other=0.0), tl.load(dopacity + at, mask=valid, other=0.0)
        later = tl.zeros((B,), tl.float32)
        while tl.max(index, 0) >= 0:
            i = first + index
            here = valid & (index >= 0)
            through = tl.load(ahead + i, mask=here, other=0.0)
            live = here & (through > 0.0)
            w = tl.load(weights + i, mask=live, other=0.0)
            red, green = tl.load(rgb + i * 3, mask=live, other=0.0), tl.load(rgb + i * 3 + 1, mask=live, other=0.0)
            blue = tl.load(rgb + i * 3 + 2, mask=live, other=0.0)
            gain = a * red + b * green + c * blue + d * tl.load(t + i, mask=live, other=0.0) + o
            gain += tl.load(dweights + i, mask=live, other=0.0)
            length = tl.load(delta + i, mask=live, other=0.0)
            tl.store(ddensity + i, ((through - w) * gain - later) * length, mask=live)
            tl.store(drgb + i * 3, w * a, mask=live)
            tl.store(drgb + i * 3 + 1, w * b, mask=live)
            tl.store(drgb + i * 3 + 2, w * c, mask=live)
            later = tl.where(live, later + w * gain, later)
            index -= 1


@triton.jit(do_not_specialize=["rays"])
def compact_kernel(
    t, delta, unit, offsets, kept, out_ray, out_t, out_delta, out_unit, rays, B: tl.constexpr
):  # fmt: skip
    """The first kept[r + 1] - kept[r] samples of each ray, packed anew."""
    for block in range(tl.program_id(0), tl.cdiv(rays, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < rays
        source = tl.load(offsets + at, mask=valid, other=0)
        target = tl.load(kept + at, mask=valid, other=0)
        count = tl.load(kept + at + 1, mask=valid, other=0) - target
        most = tl.max(count, 0)
        index = most * 0
        while index < most:
            here = valid & (index < count)
            i, j = source + index, target + index
            tl.store(out_ray + j, at.to(tl.int64), mask=here)
            tl.store(out_t + j, tl.load(t + i, mask=here, other=0.0), mask=here)
            tl.store(out_delta + j, tl.load(delta + i, mask=here, other=0.0), mask=here)
            for axis in tl.static_range(3):
                tl.store(out_unit + j * 3 + axis, tl.load(unit + i * 3 + axis, mask=here, other=0.0), mask=here)
            index += 1


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, rgb: Tensor, t: Tensor, delta: Tensor, offsets: Tensor, termination: float) -> Any:
        rays, samples, device = offsets.shape[0] - 1, density.shape[0], density.device
        color, depth, opacity = torch.zeros(rays, 3, device=device), torch.zeros(rays, device=device), torch.zeros(rays, device=device)
        weights, ahead = torch.zeros(samples, device=device), torch.zeros(samples, device=device)
        density, rgb, t, delta = (x.contiguous() for x in (density, rgb, t, delta))
        if rays:
            composite_forward[programs(triton.cdiv(rays, BLOCK), device, 32)](
                *(density, rgb, t, delta, offsets, termination, color, depth, opacity, weights, ahead, None, rays),
                SHADE=True, B=BLOCK, num_warps=1,
            )  # fmt: skip
        ctx.save_for_backward(rgb, t, delta, offsets, weights, ahead)
        return color, depth, opacity, weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rgb, t, delta, offsets, weights, ahead = ctx.saved_tensors
        ddensity, drgb, rays = torch.zeros_like(weights), torch.zeros_like(rgb), offsets.shape[0] - 1
        if rays:
            composite_backward[programs(triton.cdiv(rays, BLOCK), weights.device, 32)](
                *(rgb, t, delta, offsets, weights.detach(), ahead, *(g.contiguous() for g in gradients), ddensity, drgb, rays),
                B=BLOCK, num_warps=1,
            )  # fmt: skip
        return ddensity, drgb, None, None, None, None


def composite(
    density: Tensor,  # [M] per normalised length
    rgb: Tensor,  # [M, 3]
    t: Tensor,  # [M]
    delta: Tensor,  # [M] normalised length
    offsets: Tensor,  # [R + 1] int64
    termination: float = 1e-4,
) -> Composited:
    """Packed rays to pixels; see :func:`reference.composite`. Differentiable in density and rgb, through every output."""
    if not serves(density, rgb, t, delta) or t.requires_grad or delta.requires_grad:
        return reference.composite(density, rgb, t, delta, offsets, termination)
    return Composited(*_Composite.apply(density, rgb, t, delta, offsets.contiguous(), termination))


@torch.no_grad()
def live_counts(density: Tensor, delta: Tensor, offsets: Tensor, termination: float) -> Tensor:
    """Samples of each ray in front of its termination, [R] int64."""
    rays = offsets.shape[0] - 1
    counts = torch.zeros(rays, dtype=torch.int64, device=density.device)
    if rays:
        composite_forward[programs(triton.cdiv(rays, BLOCK), density.device, 32)](
            *(density.contiguous(), None, None, delta.contiguous(), offsets, termination, None, None, None, None, None, counts, rays),
            SHADE=False, B=BLOCK, num_warps=1,
        )  # fmt: skip
    return counts


@torch.no_grad()
def compacted(samples: Marched, counts: Tensor) -> Marched:
    """The first ``counts`` [R] samples of each ray; arrays keep their length, offsets[R] says how much of them counts."""
    rays, device = counts.shape[0], counts.device
    kept = torch.zeros_like(samples.offsets)
    torch.cumsum(counts, 0, out=kept[1:])
    ray, t, delta, unit = (torch.zeros_like(x) for x in (samples.rays, samples.t, samples.delta, samples.unit))
    if rays and ray.shape[0]:
        compact_kernel[programs(triton.cdiv(rays, BLOCK), device, 32)](
            samples.t, samples.delta, samples.unit, samples.offsets, kept, ray, t, delta, unit, rays, B=BLOCK, num_warps=1
        )
    return Marched(ray, t, delta, kept, unit)
