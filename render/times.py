"""The renderer with time: what rays of a mixed field see at many times at once, for training and for whole clips of one view."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import kernels
from ..kernels.reference import Samples, transmittance
from ..kernels.reference_times import TimedPixels
from ..representations.mixed import MixedField
from .lattice import lattice_edges, ray_range
from .marching import COLOR_WEIGHT
from .types import Rays, RenderSettings


class TimedRendering(NamedTuple):
    """What N rays see at F times, premultiplied, over nothing."""

    rgb: Tensor  # [N, 3, F]
    opacity: Tensor  # [N, F]
    still: int
    """Samples that the static branch answered for, once."""
    moving: int
    """Samples that the dynamic branch answered for, at all F times."""


def render_times(
    field: MixedField,
    rays: Rays,
    settings: RenderSettings,
    *,
    frames: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> TimedRendering:
    """Rays at the frames [F] int64 (None: all of them), by MixVoxels' rule: every sample asks one branch.

    Still samples are asked once and count as constant (detached), so that what moves does not bleed into them.
    Differentiable in the dynamic branch's parameters. Samples behind what stands still are left out.
    """
    space, ops, device = field.space, kernels.ops(field.device), field.device
    near, far = ray_range(space, rays, settings, ops)
    edges = lattice_edges(space, settings, device)
    jitter = torch.full_like(near, 0.5)
    if settings.jitter:
        jitter = torch.rand(len(rays), generator=generator, device="cpu" if generator is None else generator.device).to(near)
    along = (rays.origins, rays.directions, near, far, jitter, edges, field.occupancy.bits)
    samples = Samples(*ops.march(*along, space.lower, space.upper, space.unbounded))
    with torch.no_grad():
        positions = rays.origins.index_select(0, samples.rays) + samples.t[:, None] * rays.directions.index_select(0, samples.rays)
        unit = space.to_unit(positions)
        moves = field.moves(unit)
        delta = samples.delta * space.scale
        lowered = field.lower_static()
        sigma = torch.where(moves, 0.0, ops.evaluate_density(lowered, positions))
        through, alpha = transmittance(sigma, delta, samples.offsets)
        seen = through >= settings.termination
        counts = torch.zeros(len(rays), dtype=torch.int64, device=device).index_add_(0, samples.rays, seen.long())
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        moves, unit, positions = moves[seen], unit[seen], positions[seen]
        directions = rays.directions.index_select(0, samples.rays[seen])
        index = torch.where(moves, moves.cumsum(0) - 1, -(~moves).cumsum(0))
        worth = (through * alpha)[seen][~moves] > COLOR_WEIGHT
        rgb = torch.zeros(worth.shape[0], 3, device=device)
        rgb[worth] = ops.evaluate(lowered, positions[~moves][worth], directions[~moves][worth]).rgb
    there = unit[moves]
    branch = field.moving
    s = branch.log_density(there, branch.density.latents(frames=frames))
    logits = branch.logits(branch.encoder.appearance(there), directions[moves], branch.color.latents(frames=frames))
    pixels: TimedPixels = ops.composite_times(sigma[seen][~moves], rgb, s, logits, index, delta[seen], offsets, settings.termination)
    return TimedRendering(pixels.rgb, pixels.opacity, rgb.shape[0], there.shape[0])
