"""Reference marching and compositing: which samples a ray has, and what they add up to."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Vec3 = tuple[float, float, float]

_CHUNK = 1 << 21
"""Candidate samples looked at together; bounds the memory of :func:`march` to some tens of megabytes."""


class Samples(NamedTuple):
    """M samples of R rays, packed: ray r owns offsets[r]:offsets[r + 1], in order of distance."""

    rays: Tensor  # [M] int64, the ray of each sample
    t: Tensor  # [M] distance along the ray, world units
    delta: Tensor  # [M] length of the sample's interval, world units
    offsets: Tensor  # [R + 1] int64


class Composited(NamedTuple):
    """What R rays see, premultiplied, without a background."""

    rgb: Tensor  # [R, 3] sum of weight * colour
    depth: Tensor  # [R] sum of weight * t (divide by opacity for the expected distance)
    opacity: Tensor  # [R] sum of weights
    weights: Tensor  # [M] transmittance * alpha; 0 behind the termination


def to_unit(positions: Tensor, lower: Vec3, upper: Vec3, unbounded: bool) -> Tensor:
    """World positions [..., 3] to unit coordinates; the mapping of :class:`representations.space.Space`."""
    low = torch.tensor(lower, dtype=positions.dtype, device=positions.device)
    size = torch.tensor([b - a for a, b in zip(lower, upper, strict=True)], dtype=positions.dtype, device=positions.device)
    x = (positions - low) / size
    if not unbounded:
        return x
    x = 2.0 * x - 1.0
    norm = x.abs().amax(-1, keepdim=True).clamp_min(1.0)
    return ((2.0 - 1.0 / norm) / norm * x + 2.0) / 4.0


def inside_unit(unit: Tensor) -> Tensor:
    """Whether unit coordinates [..., 3] lie in the closed cube [0, 1]^3; NaN does not."""
    return ((unit >= 0.0) & (unit <= 1.0)).all(-1)


def box_range(
    origins: Tensor,  # [N, 3]
    directions: Tensor,  # [N, 3]
    lower: Vec3,
    upper: Vec3,
) -> tuple[Tensor, Tensor]:
    """Distances (near >= 0, far) [N] at which rays enter and leave a box; near >= far where they miss it.

    A direction component of zero is parallel to two faces: the ray is between them, or misses.
    """
    low = torch.tensor(lower, dtype=origins.dtype, device=origins.device)
    high = torch.tensor(upper, dtype=origins.dtype, device=origins.device)
    parallel = directions == 0.0
    inverse = 1.0 / torch.where(parallel, torch.ones_like(directions), directions)
    a, b = (low - origins) * inverse, (high - origins) * inverse
    between = (origins >= low) & (origins <= high)
    enter = torch.where(parallel, torch.where(between, -math.inf, math.inf), torch.minimum(a, b))
    leave = torch.where(parallel, torch.where(between, math.inf, -math.inf), torch.maximum(a, b))
    return enter.amax(-1).clamp_min(0.0), leave.amin(-1)


@torch.no_grad()
def march(
    origins: Tensor,  # [R, 3] world units
    directions: Tensor,  # [R, 3] unit length
    near: Tensor,  # [R] where the lattice starts: already the entry into the box of a bounded space (:func:`box_range`)
    far: Tensor,  # [R] exclusive end; may be infinite
    jitter: Tensor,  # [R] in [0, 1]; 0.5 is mid-step
    edges: Tensor,  # [K + 1] increasing from 0
    bits: Tensor,  # [X, Y, Z] bool occupancy over unit coordinates
    lower: Vec3,
    upper: Vec3,
    unbounded: bool,
) -> Samples:
    """The samples of each ray: interval k of its lattice is [near + edges[k], near + edges[k + 1]].

    A sample sits at ``near + (edges[k] + jitter * (edges[k + 1] - edges[k]))`` and exists where that is
    before ``far``, inside the space, and its cell floor(unit * R) of ``bits`` is set.  Rays with NaN or infinite
    numbers (``far`` may be +inf), a zero direction, or near >= far have no samples.  Nothing here carries a gradient.
    """
    rays, count = origins.shape[0], edges.shape[0] - 1
    start, width = edges[:-1], edges[1:] - edges[:-1]
    sane = torch.isfinite(origins).all(-1) & torch.isfinite(directions).all(-1) & (directions != 0.0).any(-1)
    sane &= torch.isfinite(near) & torch.isfinite(jitter) & (near < far)
    resolution = torch.tensor(bits.shape, device=origins.device)
    out_rays, out_t, out_delta = [], [], []
    todo = sane.nonzero()[:, 0]
    per_chunk = max(1, _CHUNK // max(1, count))
    for chunk in torch.split(todo, per_chunk) if todo.numel() else ():
        # Intervals that start behind every far of the chunk hold no sample.
        reach = (far[chunk] - near[chunk]).max()
        used = int(torch.searchsorted(edges, reach.to(edges.dtype)).clamp(max=count)) if count else 0
        t = near[chunk, None] + (start[:used] + jitter[chunk, None] * width[:used])
        ray, step = (t < far[chunk, None]).nonzero(as_tuple=True)
        t = t[ray, step]
        ray = chunk[ray]
        unit = to_unit(origins[ray] + t[:, None] * directions[ray], lower, upper, unbounded)
        keep = inside_unit(unit)
        ray, step, t, unit = ray[keep], step[keep], t[keep], unit[keep]
        cell = torch.minimum((unit * resolution).to(torch.int64), resolution - 1)
        keep = bits[cell[:, 0], cell[:, 1], cell[:, 2]]
        out_rays.append(ray[keep])
        out_t.append(t[keep])
        out_delta.append(width[step[keep]])
    ray = torch.cat(out_rays) if out_rays else torch.zeros(0, dtype=torch.int64, device=origins.device)
    t = torch.cat(out_t) if out_t else origins.new_zeros(0)
    delta = torch.cat(out_delta) if out_delta else edges.new_zeros(0)
    offsets = torch.zeros(rays + 1, dtype=torch.int64, device=origins.device)
    offsets[1:] = torch.bincount(ray, minlength=rays).cumsum(0)
    return Samples(ray, t, delta, offsets)


def transmittance(density: Tensor, delta: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Transmittance in front of each packed sample and its alpha = 1 - exp(-density * delta), both [M]. Differentiable in density.

    Sums in float64: one running sum serves all rays, and a difference of two long sums must keep its digits (so an
    optical depth counts no further than 100, where nothing gets through).
    """
    optical = (density.double() * delta.double()).clamp(max=100.0)
    before = optical.cumsum(0) - optical
    counts = offsets[1:] - offsets[:-1]
    first = offsets[:-1].clamp(max=max(0, density.shape[0] - 1))
    base = before[first] if density.shape[0] else before.new_zeros(counts.shape)
    through = torch.exp(-(before - torch.repeat_interleave(base, counts)).clamp_min(0.0))
    return through.to(density.dtype), -torch.expm1(-optical).to(density.dtype)


def composite(
    density: Tensor,  # [M] per normalised length
    rgb: Tensor,  # [M, 3]
    t: Tensor,  # [M] world distance
    delta: Tensor,  # [M] normalised length (world length * Space.scale)
    offsets: Tensor,  # [R + 1] int64
    termination: float = 1e-4,
) -> Composited:
    """Emission and absorption along packed rays (NeRF, eq. 3), front to back.

    A ray stops before the first sample whose transmittance is below ``termination``; samples from there on have
    weight zero and receive no gradient.  Differentiable in density and rgb, through every output.
    """
    through, alpha = transmittance(density, delta, offsets)
    weights = torch.where(through >= termination, through * alpha, torch.zeros_like(alpha))
    counts = offsets[1:] - offsets[:-1]
    rays = torch.repeat_interleave(torch.arange(counts.shape[0], device=density.device), counts)
    summed = torch.cat([weights[:, None] * rgb, (weights * t)[:, None], weights[:, None]], -1)
    total = summed.new_zeros(counts.shape[0], 5).index_add(0, rays, summed)
    return Composited(total[:, :3], total[:, 3], total[:, 4], weights)
