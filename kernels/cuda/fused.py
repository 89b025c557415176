"""The fused inference renderer of grid fields: march, encode, both networks and compositing in one launch.

A fixed number of programs share out the blocks of rays; a block is a square of neighbouring pixels (the renderer
feeds rays in squares), so that its rays read the same cells and table rows and end at about the same time.  In each
round every ray of a block that is not yet opaque walks to its next sample, and the networks see the block at once.
Nothing but rays and pixels passes through memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..lowered import GridEncoding, Lowered
from ..reference import RenderedRays
from .grid import encode, levels_of, shape_of
from .lattice import advance, cell_length, load_rays, skip_of
from .marching import box_of
from .maths import clamped, sh16, truncated_exp
from .network import channel, color_block, color_shape, color_weights, density_block, density_shape, density_weights, first_of
from .runtime import precision, programs
from .shadow import stored

BLOCK = 64
"""Rays of a block: 8 x 8 pixels."""


@triton.jit(do_not_specialize=["rays", "steps", "rx", "ry", "rz"])
def render_kernel(
    origins, directions, near, far, jitter, edges, skip, box, table, levels, d0, d1, c0, c1, c2, color, depth, opacity, cost,
    rays, steps, rx, ry, rz, scale, termination,
    UNBOUNDED: tl.constexpr, HALF: tl.constexpr, LEVELS: tl.constexpr, LP: tl.constexpr, F: tl.constexpr, TILES: tl.constexpr,
    W: tl.constexpr, WP: tl.constexpr, HD: tl.constexpr, HDP: tl.constexpr, HC: tl.constexpr, HCP: tl.constexpr,
    HE: tl.constexpr, HEP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Pixels [R] of rays [R]; see ``reference.render_rays``."""
    w0, w1 = density_weights(d0, d1, W, WP, HD, HDP, HALF)
    w2, w3, w4, w5 = color_weights(c0, c1, c2, HC, HCP, HE, HEP, HALF)
    for block in range(tl.program_id(0), tl.cdiv(rays, B), tl.num_programs(0)):
        at = block * B + tl.arange(0, B)
        valid = at < rays
        ox, oy, oz, dx, dy, dz, n, f, jit, active = load_rays(origins, directions, near, far, jitter, at, valid)
        cell = cell_length(dx, dy, dz, box, rx, ry, rz, UNBOUNDED)
        sh = sh16(dx, dy, dz, B)
        k, seen = at * 0, at * 0
        optical, through = tl.zeros((B,), tl.float32), tl.full((B,), 1.0, tl.float32)
        red, green, blue = tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32)
        distance, total = tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32)
        while tl.max(active.to(tl.int32), 0) > 0:
            k, t, delta, ux, uy, uz, active = advance(
                k, active, ox, oy, oz, dx, dy, dz, n, f, jit, cell, edges, steps, skip, rx, ry, rz, box, UNBOUNDED
            )
            x = encode(table, levels, clamped(ux), clamped(uy), clamped(uz), active, LEVELS, LP, F, TILES, B)
            _, numbers = density_block(x, w0, w1, HALF)
            _, _, rgb = color_block(numbers, sh, w2, w3, w4, w5, HALF)
            thick = tl.minimum(truncated_exp(first_of(numbers)) * delta * scale, 100.0)
            share = tl.where(thick < 1e-3, thick * (1.0 - thick * (0.5 - thick * 0.16666667)), 1.0 - tl.exp(-thick))
            w = tl.where(active, through * share, 0.0)
            red += w * channel(rgb, 0)
            green += w * channel(rgb, 1)
            blue += w * channel(rgb, 2)
            distance += w * t
            total += w
            seen += active.to(tl.int32)
            optical = tl.where(active, tl.minimum(optical + thick, 100.0), optical)
            through = tl.exp(-optical)
            k += active.to(tl.int32)
            active = active & (through >= termination)
        tl.store(color + at * 3, red, mask=valid)
        tl.store(color + at * 3 + 1, green, mask=valid)
        tl.store(color + at * 3 + 2, blue, mask=valid)
        tl.store(depth + at, distance, mask=valid)
        tl.store(opacity + at, total, mask=valid)
        tl.store(cost + at, seen.to(tl.int64), mask=valid)


def why_not_fused(lowered: Lowered) -> str | None:
    """Why a field that the kernels support has no single-launch renderer, or None."""
    return None if isinstance(lowered.encoding, GridEncoding) else "only grids are rendered in one launch"


@torch.no_grad()
def render_fused(
    lowered: Lowered, bits: Tensor, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, edges: Tensor,
    scale: float, termination: float,
) -> RenderedRays:  # fmt: skip
    """What rays see, without gradients."""
    assert isinstance(lowered.encoding, GridEncoding)
    table, layout = lowered.encoding.table, lowered.encoding.layout
    device, rays = origins.device, origins.shape[0]
    o, d, n, f, j, e = (x.detach().contiguous() for x in (origins, directions, near, far, jitter, edges))
    color, depth, opacity = torch.zeros(rays, 3, device=device), torch.zeros(rays, device=device), torch.zeros(rays, device=device)
    cost = torch.zeros(rays, dtype=torch.int64, device=device)
    weights = [w.detach().contiguous() for w in (*lowered.density_head, *lowered.color_head)]
    if rays:
        render_kernel[programs(triton.cdiv(rays, BLOCK), device)](
            *(o, d, n, f, j, e, skip_of(bits), box_of(lowered.lower, lowered.upper, device), stored(table), levels_of(layout, device)),
            *(*weights, color, depth, opacity, cost, rays, e.shape[0] - 1, *bits.shape, scale, termination),
            UNBOUNDED=lowered.unbounded, HALF=precision() == "half", B=BLOCK, **shape_of(layout), **density_shape(lowered.density_head),
            **color_shape(lowered.color_head),
        )  # fmt: skip
    return RenderedRays(color, depth, opacity, cost)
