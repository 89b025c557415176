"""``march``: the samples of rays, packed (see ``reference.march``)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from ..reference import Samples
from ..reference_march import Vec3
from .lattice import advance, cell_length, load_rays, skip_of
from .runtime import floats, interpreted, programs

BLOCK = 32
"""Rays a program walks in step; one warp, so that few wait for the longest."""


@triton.jit(do_not_specialize=["rays", "steps", "rx", "ry", "rz"])
def march_kernel(
    origins, directions, near, far, jitter, edges, skip, box, counts, offsets, out_ray, out_t, out_delta, out_unit,
    rays, steps, rx, ry, rz, UNBOUNDED: tl.constexpr, FILL: tl.constexpr, UNIT: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """counts [R] of samples, or where FILL the samples themselves at offsets [R + 1], no ray's beyond where the next one's begin.

    Both passes compute alike, but the compiler may round them differently: a sample more than was counted must not be another's.
    """
    for block in range(tl.program_id(0), tl.cdiv(rays, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < rays
        ox, oy, oz, dx, dy, dz, n, f, jit, active = load_rays(origins, directions, near, far, jitter, at, valid)
        cell = cell_length(dx, dy, dz, box, rx, ry, rz, UNBOUNDED)
        k = at * 0
        count = at * 0
        if FILL:
            first = tl.load(offsets + at, mask=valid, other=0)
            last = tl.load(offsets + at + 1, mask=valid, other=0)
        while tl.max(active.to(tl.int32), 0) > 0:
            k, t, delta, ux, uy, uz, active = advance(
                k, active, ox, oy, oz, dx, dy, dz, n, f, jit, cell, edges, steps, skip, rx, ry, rz, box, UNBOUNDED
            )
            if FILL:
                place = first + count
                room = active & (place < last)
                tl.store(out_ray + place, at.to(tl.int64), mask=room)
                tl.store(out_t + place, t, mask=room)
                tl.store(out_delta + place, delta, mask=room)
                if UNIT:
                    tl.store(out_unit + place * 3, ux, mask=room)
                    tl.store(out_unit + place * 3 + 1, uy, mask=room)
                    tl.store(out_unit + place * 3 + 2, uz, mask=room)
            count += active.to(tl.int32)
            k += active.to(tl.int32)
        if not FILL:
            tl.store(counts + at, count.to(tl.int64), mask=valid)


class Marched(NamedTuple):
    """Packed samples as ``Samples``, with their unit coordinates; arrays may be longer than offsets[R] says."""

    rays: Tensor  # [M] int64
    t: Tensor  # [M] world units
    delta: Tensor  # [M] world units
    offsets: Tensor  # [R + 1] int64
    unit: Tensor  # [M, 3]


def serves_rays(*tensors: Tensor) -> bool:
    device = tensors[0].device
    return (device.type == "cuda" or interpreted()) and all(t.dtype == torch.float32 and t.device == device for t in tensors)


def box_of(lower: Vec3, upper: Vec3, device: torch.device) -> Tensor:
    """Lower corner and size, [6]."""
    return floats((*lower, *(b - a for a, b in zip(lower, upper, strict=True))), device)


@torch.no_grad()
def walk(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, edges: Tensor, bits: Tensor, lower: Vec3, upper: Vec3,
    unbounded: bool, capacity: int | None = None, unit: bool = True, needed: Tensor | None = None,
) -> Marched:  # fmt: skip
    """The samples of rays.

    Without ``capacity`` the number of samples is asked of the device.  With it arrays are that long, nothing is asked,
    and a sample that does not fit is left out, the last rays' first; offsets count only what is there.
    """
    device, rays, steps = origins.device, origins.shape[0], edges.shape[0] - 1
    o, d, n, f, j, e = (x.detach().contiguous() for x in (origins, directions, near, far, jitter, edges))
    skip, box = skip_of(bits), box_of(lower, upper, device)
    counts = torch.zeros(rays, dtype=torch.int64, device=device)
    grid = programs(triton.cdiv(rays, BLOCK), device, 32)
    shape = {"UNBOUNDED": unbounded, "B": BLOCK, "num_warps": 1}
    if rays:
        march_kernel[grid](
            *(o, d, n, f, j, e, skip, box, counts, None, None, None, None, None, rays, steps, *bits.shape),
            FILL=False,
            UNIT=False,
            **shape,
        )
    offsets = torch.zeros(rays + 1, dtype=torch.int64, device=device)
    torch.cumsum(counts, 0, out=offsets[1:])
    if capacity is None:
        total = int(offsets[-1])
    else:
        total = capacity
        if needed is not None:
            needed.copy_(offsets[-1:])
        offsets.clamp_(max=capacity)
    ray, t, delta = (
        torch.zeros(total, dtype=torch.int64, device=device),
        torch.zeros(total, device=device),
        torch.zeros(total, device=device),
    )
    units = torch.zeros((total, 3) if unit else (0, 3), device=device)
    if rays and total:
        march_kernel[grid](
            *(o, d, n, f, j, e, skip, box, None, offsets, ray, t, delta, units, rays, steps, *bits.shape),
            FILL=True,
            UNIT=unit,
            **shape,
        )
    return Marched(ray, t, delta, offsets, units)


@torch.no_grad()
def march(
    origins: Tensor,  # [R, 3]
    directions: Tensor,  # [R, 3] unit length
    near: Tensor,  # [R]
    far: Tensor,  # [R]
    jitter: Tensor,  # [R]
    edges: Tensor,  # [K + 1]
    bits: Tensor,  # [X, Y, Z] bool
    lower: Vec3,
    upper: Vec3,
    unbounded: bool,
) -> Samples:
    """The samples of each ray, packed; see :func:`reference.march`. No gradient."""
    if not serves_rays(origins, directions, near, far, jitter, edges):
        return reference.march(origins, directions, near, far, jitter, edges, bits, lower, upper, unbounded)
    return Samples(*walk(origins, directions, near, far, jitter, edges, bits, lower, upper, unbounded, unit=False)[:4])
