"""Walking rays through the occupancy grid: the samples of ``reference.march``, with empty space jumped over."""

from __future__ import annotations

import threading
import weakref

import torch
import triton
import triton.language as tl
from torch import Tensor

FARTHEST = 15
"""Cells from the nearest occupied one that the skip grid still tells apart."""

_skips: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}
_lock = threading.Lock()


@torch.no_grad()
def skip_of(bits: Tensor) -> Tensor:
    """Cells from each cell to the nearest occupied one along the longest axis (Chebyshev), at most FARTHEST; uint8 [X, Y, Z].

    Kept until the tensor changes (torch's version counter) or dies.
    """
    with _lock:
        found = _skips.get(id(bits))
        if found is not None and found[0]() is bits and found[1] == bits._version and found[2].device == bits.device:
            return found[2]
    version = bits._version
    near = bits.detach().to(torch.float32)[None, None]
    skip = torch.zeros_like(near)
    for _ in range(FARTHEST):
        skip += near == 0.0
        near = torch.nn.functional.max_pool3d(near, 3, 1, 1)
    grid = skip[0, 0].to(torch.uint8).contiguous()
    if found is not None and found[0]() is bits and found[2].shape == grid.shape and found[2].device == grid.device:
        grid = found[2].copy_(grid)  # in its place: recorded steps read it there
    with _lock:
        for key in [key for key, (alive, _, _) in _skips.items() if alive() is None]:
            del _skips[key]
        _skips[id(bits)] = (weakref.ref(bits), version, grid)
    return grid


@triton.jit
def finite(x):
    return tl.abs(x) < 3.4e38


@triton.jit
def load_rays(origins, directions, near, far, jitter, at, valid):
    """Origin, direction, near, far, jitter [B] of rays, and which of them can have samples."""
    ox, oy = tl.load(origins + at * 3, mask=valid, other=0.0), tl.load(origins + at * 3 + 1, mask=valid, other=0.0)
    oz = tl.load(origins + at * 3 + 2, mask=valid, other=0.0)
    dx, dy = tl.load(directions + at * 3, mask=valid, other=0.0), tl.load(directions + at * 3 + 1, mask=valid, other=0.0)
    dz = tl.load(directions + at * 3 + 2, mask=valid, other=0.0)
    n = tl.load(near + at, mask=valid, other=0.0)
    f = tl.load(far + at, mask=valid, other=0.0)
    j = tl.load(jitter + at, mask=valid, other=0.5)
    sane = valid & finite(ox) & finite(oy) & finite(oz) & finite(dx) & finite(dy) & finite(dz) & finite(n) & finite(j) & (n < f)
    sane = sane & ((dx != 0.0) | (dy != 0.0) | (dz != 0.0))
    return ox, oy, oz, dx, dy, dz, n, f, j, sane


@triton.jit
def cell_length(dx, dy, dz, box, rx, ry, rz, UNBOUNDED: tl.constexpr):
    """World distance along each ray in which it crosses at most one cell per axis, shortened by a thousandth for rounding."""
    ax = tl.abs(dx) / tl.load(box + 3)
    ay = tl.abs(dy) / tl.load(box + 4)
    az = tl.abs(dz) / tl.load(box + 5)
    if UNBOUNDED:
        # Measured by the longest axis the contraction stretches at most 4/3-fold, and it halves the box: 2/3 of a bounded one's cells.
        most = tl.maximum(tl.maximum(rx, ry), rz).to(tl.float32)
        rate = tl.maximum(tl.maximum(ax, ay), az) * most * 0.66667
    else:
        rate = tl.maximum(tl.maximum(ax * rx.to(tl.float32), ay * ry.to(tl.float32)), az * rz.to(tl.float32))
    return 0.999 / tl.maximum(rate, 1e-20)


@triton.jit
def unit_at(ox, oy, oz, dx, dy, dz, t, bx, by, bz, sx, sy, sz, UNBOUNDED: tl.constexpr):
    """Unit coordinates of the points at distance t."""
    x = tl.div_rn(ox + t * dx - bx, sx)
    y = tl.div_rn(oy + t * dy - by, sy)
    z = tl.div_rn(oz + t * dz - bz, sz)
    if UNBOUNDED:
        x, y, z = 2.0 * x - 1.0, 2.0 * y - 1.0, 2.0 * z - 1.0
        norm = tl.maximum(tl.maximum(tl.abs(x), tl.maximum(tl.abs(y), tl.abs(z))), 1.0)
        factor = tl.div_rn(2.0 - tl.div_rn(norm * 0.0 + 1.0, norm), norm)
        x, y, z = (factor * x + 2.0) * 0.25, (factor * y + 2.0) * 0.25, (factor * z + 2.0) * 0.25
    return x, y, z


@triton.jit
def advance(
    k, searching, ox, oy, oz, dx, dy, dz, near, far, jitter, cell, edges, steps, skip, rx, ry, rz, box, UNBOUNDED: tl.constexpr
):  # fmt: skip
    """Moves every searching ray [B] on from interval k to the interval of its next sample.

    Returns k, the sample's distance, the interval's length, unit coordinates, and whether there is a sample.  A ray that
    finds none has come to its end.
    """
    bx, by, bz = tl.load(box), tl.load(box + 1), tl.load(box + 2)
    sx, sy, sz = tl.load(box + 3), tl.load(box + 4), tl.load(box + 5)
    looking = searching
    found = searching & (k < 0)
    # Of zeros, not of near times zero: a ray that misses may begin at infinity.
    t, delta = tl.zeros_like(near), tl.zeros_like(near)
    ux, uy, uz = tl.zeros_like(near), tl.zeros_like(near), tl.zeros_like(near)
    while tl.max(looking.to(tl.int32), 0) > 0:
        there = looking & (k < steps)
        start = tl.load(edges + k, mask=there, other=0.0)
        width = tl.load(edges + k + 1, mask=there, other=0.0) - start
        here = near + (start + jitter * width)
        there = there & (here < far)
        x, y, z = unit_at(ox, oy, oz, dx, dy, dz, here, bx, by, bz, sx, sy, sz, UNBOUNDED)
        within = there & (x >= 0.0) & (x <= 1.0) & (y >= 0.0) & (y <= 1.0) & (z >= 0.0) & (z <= 1.0)
        i = tl.minimum((tl.where(within, x, 0.0) * rx.to(tl.float32)).to(tl.int32), rx - 1)
        j = tl.minimum((tl.where(within, y, 0.0) * ry.to(tl.float32)).to(tl.int32), ry - 1)
        l = tl.minimum((tl.where(within, z, 0.0) * rz.to(tl.float32)).to(tl.int32), rz - 1)
        empty = tl.load(skip + (i * ry + j) * rz + l, mask=within, other=1).to(tl.int32)
        hit = within & (empty == 0)
        found = found | hit
        t, delta = tl.where(hit, here, t), tl.where(hit, width, delta)
        ux, uy, uz = tl.where(hit, x, ux), tl.where(hit, y, uy), tl.where(hit, z, uz)
        looking = there & (empty > 0)
        # Everything closer than `reach` lies in cells known to be empty: the furthest interval that ends before it.
        reach = (empty - 1).to(tl.float32) * cell
        far_enough = looking & (empty > 1)
        last = k
        if tl.max(far_enough.to(tl.int32), 0) > 0:
            for power in tl.static_range(6):
                candidate = last + (32 >> power)
                end = tl.load(edges + candidate + 1, mask=far_enough & (candidate < steps), other=3.4e38)
                last = tl.where(far_enough & (end - start <= reach), candidate, last)
        k = tl.where(looking, last + 1, k)
    return k, t, delta, ux, uy, uz, found
