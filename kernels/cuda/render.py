"""``render_rays``: with gradients march, evaluate, composite, over live samples only; without, where it can be, in one launch."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from ..cancel import CancelFlag, Cancelled
from ..lowered import Lowered
from ..reference import RenderedRays
from .compositing import compacted, composite, live_counts
from .fused import render_fused, why_not_fused
from .lattice import skip_of
from .marching import Marched, serves_rays, walk
from .pointwise import density_at, shade, supports, tensors_of
from .runtime import serves
from .shadow import drop, stored

FUSED_RAYS, PACKED_RAYS = 1 << 22, 1 << 15
"""Rays of a picture in one call: of one launch that keeps nothing, and where all samples of all rays are in memory at once."""
SLICE = 1 << 20
"""Samples of a picture whose factors or voxels are in memory at once; 144 numbers each (VM) come to 600 MB."""


def rays_at_once(lowered: Lowered) -> int:
    """How many rays of a picture to render in one call."""
    return FUSED_RAYS if why_not_fused(lowered) is None else PACKED_RAYS


def ready(lowered: Lowered, bits: Tensor) -> None:
    """Bring up to date, where they are, the copies of a field and its occupancy that launches read; before a recorded step runs."""
    skip_of(bits)
    for tensor in tensors_of(lowered.encoding):
        stored(tensor)


def forget(lowered: Lowered) -> None:
    """A field's tensors were changed behind torch's back."""
    for tensor in tensors_of(lowered.encoding):
        drop(tensor)


def render_rays(
    lowered: Lowered,
    bits: Tensor,  # [X, Y, Z] bool
    origins: Tensor,  # [R, 3]
    directions: Tensor,  # [R, 3] unit length
    near: Tensor,  # [R]
    far: Tensor,  # [R]
    jitter: Tensor,  # [R]
    edges: Tensor,  # [K + 1]
    scale: float,
    termination: float = 1e-4,
    cancel: CancelFlag | None = None,
    capacity: int | None = None,
    needed: Tensor | None = None,
) -> RenderedRays:
    """March, evaluate and composite; see :func:`reference.render_rays`.

    With ``capacity``, room for so many samples, nothing is asked of the device on the way, so that the call can be
    captured as a CUDA graph; samples that find no room are left out, and ``needed`` [1] int64 is told how many there were.

    Raises:
        Cancelled: ``cancel`` was set before; a launch that runs is not stopped.
    """
    if cancel is not None and cancel.is_set:
        raise Cancelled("rendering was cancelled")
    if (
        not serves_rays(origins, directions, near, far, jitter, edges)
        or origins.requires_grad
        or directions.requires_grad
        or supports(lowered) is not None
        or not serves(origins, *tensors_of(lowered))
    ):
        return reference.render_rays(lowered, bits, origins, directions, near, far, jitter, edges, scale, termination)
    learning = torch.is_grad_enabled() and any(t.requires_grad for t in tensors_of(lowered))
    if not learning and why_not_fused(lowered) is None:
        return render_fused(lowered, bits, origins, directions, near, far, jitter, edges, scale, termination)
    directions = directions.contiguous()
    samples = walk(
        origins, directions, near, far, jitter, edges, bits, lowered.lower, lowered.upper, lowered.unbounded, capacity, needed=needed
    )
    at_once = learning or capacity is not None
    with torch.no_grad():
        if at_once:
            density = density_at(lowered, samples.unit, samples.offsets[-1:])
        else:
            density = torch.cat([density_at(lowered, unit) for unit in samples.unit.split(SLICE)])
        counts = live_counts(density, samples.delta * scale, samples.offsets, termination)
        samples = compacted(samples, counts)
    if at_once:
        density, rgb = shade(lowered, samples.unit, directions, samples.rays, samples.offsets[-1:])
    else:
        density, rgb = _shade_in_slices(lowered, samples, directions)
    out = composite(density, rgb, samples.t, samples.delta * scale, samples.offsets, termination)
    return RenderedRays(out.rgb, out.depth, out.opacity, counts)


def _shade_in_slices(lowered: Lowered, samples: Marched, directions: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`shade` of the samples that count; the device is asked how many."""
    density, rgb = torch.zeros_like(samples.t), torch.zeros_like(samples.unit)
    for begin in range(0, int(samples.offsets[-1]), SLICE):
        part = slice(begin, begin + SLICE)
        density[part], rgb[part] = shade(lowered, samples.unit[part], directions, samples.rays[part])
    return density, rgb
