"""The reference path of the renderer: any field, any device, PyTorch only, readable next to NeRF's equations."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..kernels.reference import Samples, transmittance
from ..representations.field import Field, truncated_exp
from .normals import density_normals
from .types import Rays, Rendering

EVALUATE = 1 << 16
"""Field evaluations in flight without gradients; a wide MLP's activations then stay below some hundred megabytes."""
MARCH_RAYS = 1 << 13
"""Rays marched together without gradients; bounds the memory of their packed samples."""
FIRST_LOOK = 1 << 14
"""Field evaluations in flight where only a ray's end is looked for: short rounds, so that few samples behind it are asked."""
PROBE = 16
"""One ray of so many tells whether that look is worth it ..."""
IDLE = 0.3
"""... which it is where at least this share of the samples lie behind their rays' ends."""
COLOR_WEIGHT = 2e-5
"""Samples that weigh less are not worth a colour; at 1,000 of them on a ray the error is still below one grey level in 50."""
NORMAL_WEIGHT = 1e-2
"""Samples that weigh less are not worth the six densities of a normal."""


def composite_rays(
    field: Field,
    ops: ModuleType | Any,
    rays: Rays,
    near: Tensor,  # [N]
    far: Tensor,  # [N]
    jitter: Tensor,  # [N]
    edges: Tensor,  # [K + 1]
    termination: float,
    normals: bool,
) -> Rendering:
    """What rays see, premultiplied, over nothing; depth is still sum(weight * distance).

    With gradients enabled, a first pass without them finds the samples in front of the termination and only those
    are evaluated differentiably (unless the field's own backward pass leaves the others out, and they are few); without,
    samples are evaluated front to back in rounds, and rays that are opaque drop out.
    """
    march = _marcher(field, ops, rays, near, far, jitter, edges)
    if not torch.is_grad_enabled():
        parts = [
            _rounds(field, rays[part], march(part), termination, color=True, normal=field.density if normals else None)
            for part in _parts(len(rays))
        ]
        return concatenate(parts) if parts else _nothing(rays, normals)

    samples = march(slice(None))
    counts = None
    if not field.drops_idle_samples or _many_idle(field, rays[::PROBE], march(slice(None, None, PROBE)), termination):
        counts = seen_counts(field, rays, samples, termination)
        samples = prefix(samples, counts)
    directions = rays.directions[samples.rays]
    positions = rays.origins[samples.rays] + samples.t[:, None] * directions
    geometry = field.geometry(positions)
    density = geometry.gate * truncated_exp(geometry.log_density)
    rgb = field.color(geometry.features, directions)
    delta = samples.delta * field.space.scale
    out = ops.composite(density, rgb, samples.t, delta, samples.offsets, termination)
    if counts is None:
        ahead, _ = transmittance(density.detach(), delta, samples.offsets)
        counts = torch.zeros(len(rays), dtype=torch.int64, device=ahead.device)
        counts.index_add_(0, samples.rays, (ahead >= termination).to(torch.int64))
    normal = None
    if normals:
        normal = torch.zeros_like(rays.origins)
        heavy = (out.weights.detach() > NORMAL_WEIGHT).nonzero()[:, 0]
        weighted = out.weights[heavy, None] * density_normals(field, positions[heavy], field.density)
        normal = normal.index_add(0, samples.rays[heavy], weighted)
    return Rendering(out.rgb, out.depth, out.opacity, normal, counts)


@torch.no_grad()
def composite_normals(
    field: Field,
    ops: ModuleType | Any,
    density: Callable[[Tensor], Tensor],
    rays: Rays,
    near: Tensor,  # [N]
    far: Tensor,  # [N]
    jitter: Tensor,  # [N]
    edges: Tensor,  # [K + 1]
    termination: float,
) -> Tensor:
    """The rays' weighted normals [N, 3] alone, from a faster ``density`` (positions [M, 3] -> [M]) than the field's own."""
    march = _marcher(field, ops, rays, near, far, jitter, edges)
    parts = [_rounds(field, rays[part], march(part), termination, density=density, normal=density) for part in _parts(len(rays))]
    normals = concatenate(parts).normals if parts else torch.zeros_like(rays.origins)
    assert normals is not None
    return normals


def _marcher(
    field: Field, ops: ModuleType | Any, rays: Rays, near: Tensor, far: Tensor, jitter: Tensor, edges: Tensor
) -> Callable[[slice], Samples]:
    space, bits = field.space, field.occupancy.bits

    def march(part: slice) -> Samples:
        return Samples(
            *ops.march(
                *(rays.origins[part], rays.directions[part], near[part], far[part], jitter[part], edges, bits),
                *(space.lower, space.upper, space.unbounded),
            )
        )

    return march


def _parts(count: int) -> list[slice]:
    return [slice(begin, begin + MARCH_RAYS) for begin in range(0, count, MARCH_RAYS)]


def concatenate(parts: list[Rendering]) -> Rendering:
    """One rendering of all the parts' rays, in order."""
    normals = [part.normals for part in parts if part.normals is not None]
    costs = [part.cost for part in parts if part.cost is not None]
    return Rendering(
        torch.cat([part.rgb for part in parts]),
        torch.cat([part.depth for part in parts]),
        torch.cat([part.opacity for part in parts]),
        torch.cat(normals) if normals else None,
        torch.cat(costs) if costs else None,
    )


def _nothing(rays: Rays, normals: bool) -> Rendering:
    zeros = torch.zeros_like(rays.origins)
    cost = torch.zeros(len(rays), dtype=torch.int64, device=zeros.device)
    return Rendering(zeros, zeros[:, 0], zeros[:, 1], zeros if normals else None, cost)


def seen_counts(field: Field, rays: Rays, samples: Samples, termination: float) -> Tensor:
    """How many of each ray's samples lie in front of its termination, [N] int64; no gradient."""
    counts = _rounds(field, rays, samples, termination, evaluate=FIRST_LOOK).cost
    assert counts is not None
    return counts


def _many_idle(field: Field, rays: Rays, samples: Samples, termination: float) -> bool:
    """Whether at least :data:`IDLE` of these samples lie behind their rays' termination."""
    return int(seen_counts(field, rays, samples, termination).sum()) <= (1.0 - IDLE) * samples.t.numel()


def prefix(samples: Samples, counts: Tensor) -> Samples:
    """The first ``counts[r]`` samples of each ray."""
    begin = samples.offsets[:-1]
    position = torch.arange(samples.rays.shape[0], device=counts.device) - begin.index_select(0, samples.rays)
    keep = (position < counts.index_select(0, samples.rays)).nonzero()[:, 0]
    offsets = torch.zeros_like(samples.offsets)
    offsets[1:] = counts.cumsum(0)
    return Samples(samples.rays.index_select(0, keep), samples.t.index_select(0, keep), samples.delta.index_select(0, keep), offsets)


@torch.no_grad()
def _rounds(
    field: Field,
    rays: Rays,
    samples: Samples,
    termination: float,
    *,
    color: bool = False,
    density: Callable[[Tensor], Tensor] | None = None,
    normal: Callable[[Tensor], Tensor] | None = None,
    evaluate: int = EVALUATE,
) -> Rendering:
    """Evaluate packed samples front to back, some per ray and round, until every ray is opaque or used up.

    ``cost`` counts a ray's samples in front of its termination.  Colours are summed with ``color`` (which rules out
    ``density``, a substitute for the field's own), normals where ``normal`` gives the density they come from.
    """
    scale, device = field.space.scale, rays.origins.device
    count = len(rays)
    rgb, facing = torch.zeros_like(rays.origins), torch.zeros_like(rays.origins)
    depth, opacity = torch.zeros_like(rays.origins[:, 0]), torch.zeros_like(rays.origins[:, 0])
    through = torch.ones(count, dtype=torch.float64, device=device)
    cost = torch.zeros(count, dtype=torch.int64, device=device)
    cursor, end = samples.offsets[:-1].clone(), samples.offsets[1:]
    active = (cursor < end).nonzero()[:, 0]
    while active.numel():
        # A few samples each while many rays may still turn opaque; longer runs once few are left, so that batches stay full.
        per_ray = min(32, max(4, evaluate // (4 * active.numel())))
        for part in torch.split(active, max(1, evaluate // per_ray)):
            index = cursor[part, None] + torch.arange(per_ray, device=device)
            valid = index < end[part, None]
            local_ray, _ = valid.nonzero(as_tuple=True)
            index = index[valid]
            ray = part[local_ray]
            t = samples.t[index]
            directions = rays.directions[ray]
            positions = rays.origins[ray] + t[:, None] * directions
            if density is not None and not color:
                sigma = density(positions)
            else:
                geometry = field.geometry(positions)
                sigma = geometry.gate * truncated_exp(geometry.log_density)
            taken = valid.sum(1)
            offsets = torch.zeros(len(part) + 1, dtype=torch.int64, device=device)
            offsets[1:] = taken.cumsum(0)
            delta = samples.delta[index] * scale
            ahead, alpha = transmittance(sigma, delta, offsets)
            ahead = ahead * through[ray]
            live = ahead >= termination
            cost.index_add_(0, ray, live.to(torch.int64))
            optical = torch.zeros_like(through).index_add_(0, ray, sigma.double() * delta.double())
            through[part] *= torch.exp(-optical[part])
            cursor[part] += taken
            if not color and normal is None:
                continue
            weight = torch.where(live, (ahead * alpha).to(t.dtype), torch.zeros_like(t))
            opacity.index_add_(0, ray, weight)
            depth.index_add_(0, ray, weight * t)
            if color:
                seen = (weight > COLOR_WEIGHT).nonzero()[:, 0]
                rgb.index_add_(0, ray[seen], weight[seen, None] * field.color(geometry.features[seen], directions[seen]).to(rgb.dtype))
            if normal is not None:
                heavy = (weight > NORMAL_WEIGHT).nonzero()[:, 0]
                facing.index_add_(0, ray[heavy], weight[heavy, None] * density_normals(field, positions[heavy], normal))
        active = active[(cursor[active] < end[active]) & (through[active] >= termination)]
    return Rendering(rgb, depth, opacity, None if normal is None else facing, cost)
