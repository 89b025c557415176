"""The renderer: rays of any field to colour, depth, opacity and normals, by the best implementation at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..errors import UserError
from ..kernels import reference
from ..kernels.cancel import CancelFlag, Cancelled
from ..kernels.lowered import Lowered
from ..representations.field import Field
from .camera import Camera, lens_directions, opencv_rotation, pixel_centres
from .distortion import Distortion
from .lattice import lattice_edges, ray_range
from .marching import composite_normals, composite_rays, concatenate, prefix, seen_counts
from .types import Rays, Rendering, RenderSettings

__all__ = ["CancelFlag", "Cancelled", "background_color", "render_image", "which_renderer", "render_rays", "seen_samples"]

TILE = 16
"""Rays of an image are fed in squares of this many pixels: neighbours meet the same cells, which stay in the cache."""
CHUNK = 1 << 16
"""Rays of an image rendered in one call."""
WHOLE_CHUNK = 1 << 20
"""The same where a fused kernel can be stopped in the midst of it: putting chunks together costs more than it saves."""
SHORT_CHUNK = 1 << 13
"""The same where somebody watches progress or may cancel."""
GPU_TILE = 8
"""The same on a GPU, where a block of the fused renderer takes 64 rays at once."""
SLOW_CHUNK = 1 << 10
"""The same where somebody may cancel and no fused kernel serves the field."""
EPSILON = 1e-6
"""Opacity below which a ray has seen nothing worth a depth or a normal."""


def render_rays(
    field: Field,
    rays: Rays,
    settings: RenderSettings,
    *,
    background: Tensor | None = None,
    jitter: Tensor | None = None,
    generator: torch.Generator | None = None,
    cancel: CancelFlag | None = None,
) -> Rendering:
    """What N rays see.

    Differentiable in the field's parameters (and in ``background``) through rgb, depth and opacity while gradients
    are enabled; cheaper when they are not.  Depth is the expected distance, sum(weight * t) / opacity, in world units.

    Args:
        field: any field; its occupancy decides where to look.
        rays: in world units, on the field's device. Rays that miss, or hold NaN, see the background.
        settings: step length, termination, background name, normals.
        background: [3] or [N, 3] colour behind everything; None: the one ``settings`` names.
        jitter: [N] in [0, 1], each ray's place within its intervals; None: random if ``settings.jitter``, else 0.5.
        generator: where random jitter comes from; may live on another device.
        cancel: stops a fused kernel within milliseconds; other paths do not look at it.

    Raises:
        Cancelled: ``cancel`` was set meanwhile.
    """
    space, device = field.space, rays.origins.device
    ops, lowered, _ = _choice(field, device, settings)
    near, far = ray_range(space, rays, settings, ops)
    edges = lattice_edges(space, settings, device)
    jitter = _jitter(len(rays), settings, generator, device) if jitter is None else jitter.to(device, torch.float32)

    if lowered is not None:
        rgb, depth, opacity, cost = ops.render_rays(
            *(lowered, field.occupancy.bits, rays.origins, rays.directions, near, far, jitter, edges),
            *(space.scale, settings.termination),
            **({} if cancel is None else {"cancel": cancel}),
        )
        found = Rendering(rgb, depth, opacity, None, cost)
        if settings.normals:
            density = partial(ops.evaluate_density, lowered)
            found.normals = composite_normals(field, ops, density, rays, near, far, jitter, edges, settings.termination)
    else:
        found = composite_rays(field, ops, rays, near, far, jitter, edges, settings.termination, settings.normals)

    behind = background if background is not None else background_color(field, settings.background)
    rgb = found.rgb if behind is None else found.rgb + (1.0 - found.opacity)[:, None] * behind.to(found.rgb)
    normals = found.normals
    if normals is not None:
        length = normals.norm(dim=-1, keepdim=True)
        normals = torch.where(length > EPSILON, normals / length.clamp_min(EPSILON), torch.zeros_like(normals))
    return Rendering(rgb, found.depth / found.opacity.clamp_min(EPSILON), found.opacity, normals, found.cost)


@torch.no_grad()
def seen_samples(
    field: Field,
    rays: Rays,
    settings: RenderSettings,
    *,
    bits: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> reference.Samples:
    """The samples of each ray in front of its termination: those a rendering by the same settings is made of.

    Args:
        bits: [R, R, R] occupancy to march through; None: the field's own.
        generator: where random jitter comes from.
    """
    space, device = field.space, rays.origins.device
    ops, lowered, _ = _choice(field, device, settings)
    near, far = ray_range(space, rays, settings, ops)
    edges = lattice_edges(space, settings, device)
    jitter = _jitter(len(rays), settings, generator, device)
    bits = field.occupancy.bits if bits is None else bits
    along = (rays.origins, rays.directions, near, far, jitter, edges)
    samples = reference.Samples(*ops.march(*along, bits, space.lower, space.upper, space.unbounded))
    if lowered is not None:
        counts = ops.render_rays(lowered, bits, *along, space.scale, settings.termination).cost
    else:
        counts = seen_counts(field, rays, samples, settings.termination)
    return prefix(samples, counts)


def _jitter(count: int, settings: RenderSettings, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Each ray's place within its intervals, [count] in [0, 1]."""
    if not settings.jitter:
        return torch.full((count,), 0.5, device=device)
    return torch.rand(count, generator=generator, device=generator.device if generator is not None else device).to(device, torch.float32)


@torch.no_grad()
def which_renderer(field: Field, settings: RenderSettings | None = None) -> str:
    """How pictures of this field would be made now, for people: "fused", or "reference: " and the reason."""
    return _choice(field, field.device, settings or RenderSettings())[2]


def background_color(field: Field, name: str) -> Tensor | None:
    """The colour [3] a background name stands for, on the field's device; None for "none".

    Raises:
        UserError: an unknown name, or "learned" for a field that learned none.
    """
    if name == "none":
        return None
    if name in ("white", "black"):
        return torch.full((3,), 1.0 if name == "white" else 0.0, device=field.device)
    if name == "learned":
        if field.background is not None:
            return torch.sigmoid(field.background)
        raise UserError(f"this {field.family} field has no learned background; choose white, black or none")
    raise UserError(f"unknown background {name!r}; choose white, black, none or learned")


@torch.no_grad()
def render_image(
    field: Field,
    camera: Camera,
    settings: RenderSettings,
    *,
    background: Tensor | None = None,
    progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Rendering:
    """A whole picture, without gradients: rgb and normals [H, W, 3], depth, opacity and cost [H, W].

    A field that moves is seen at the camera's time, without one at its first.

    Args:
        background: [3] colour, or None for the one ``settings`` names.
        progress: told the finished fraction in (0, 1] now and then.
        cancel: asked between chunks of rays; a :class:`CancelFlag` also stops a fused kernel in the midst of one.

    Raises:
        Cancelled: ``cancel`` returned True.
    """
    field, device = field.at(camera.time or 0.0), field.device
    tile = GPU_TILE if device.type == "cuda" else TILE
    rays = tiled_rays(camera, device, tile)
    inverse = _inverse_order(camera.width, camera.height, tile, device)
    flag = cancel if isinstance(cancel, CancelFlag) else None
    chunk = CHUNK if progress is None and (cancel is None or (flag is not None and not settings.normals)) else SHORT_CHUNK
    ops, lowered, _ = _choice(field, device, settings)
    if cancel is not None and lowered is None:
        chunk = SLOW_CHUNK
    elif flag is not None and progress is None and not settings.normals and device.type == "cpu":
        chunk = WHOLE_CHUNK
    elif device.type == "cuda" and lowered is not None and not settings.normals and hasattr(ops, "rays_at_once"):
        chunk = ops.rays_at_once(lowered)  # launches are short; waiting between them is what costs
    parts = []
    for begin in range(0, len(rays), chunk):
        if cancel is not None and cancel():
            raise Cancelled
        parts.append(render_rays(field, rays[begin : begin + chunk], settings, background=background, cancel=flag))
        if progress is not None:
            progress(min(1.0, (begin + chunk) / len(rays)))
    flat, shape = parts[0] if len(parts) == 1 else concatenate(parts), (camera.height, camera.width)

    def picture(values: Tensor) -> Tensor:
        return values.index_select(0, inverse).reshape(*shape, *values.shape[1:])

    return Rendering(
        picture(flat.rgb),
        picture(flat.depth),
        picture(flat.opacity),
        None if flat.normals is None else picture(flat.normals),
        None if flat.cost is None else picture(flat.cost),
    )


@lru_cache(maxsize=8)
def tile_order(width: int, height: int, tile: int) -> tuple[Tensor, Tensor]:
    """Row-major pixel indices [H * W] square by square, and the inverse permutation."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    across = math.ceil(width / tile)
    key = ((y // tile) * across + x // tile) * tile * tile + (y % tile) * tile + x % tile
    order = torch.argsort(key.reshape(-1))
    return order, torch.argsort(order)


@lru_cache(maxsize=8)
def _inverse_order(width: int, height: int, tile: int, device: torch.device) -> Tensor:
    """The inverse permutation of :func:`tile_order` where it is needed."""
    return tile_order(width, height, tile)[1].to(device)


def tiled_rays(camera: Camera, device: torch.device, tile: int) -> Rays:
    """All rays of a picture in the order of :func:`tile_order`."""
    lens = (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion)
    local = _tiled_directions(*lens, tile, device)
    rotation = torch.as_tensor(opencv_rotation(camera.camera_to_world), dtype=torch.float32).to(device)
    directions = local @ rotation.T
    origins = torch.tensor(camera.position.tolist(), dtype=torch.float32).to(device).expand_as(directions).contiguous()
    return Rays(origins, directions)


@lru_cache(maxsize=6)
def _tiled_directions(
    width: int, height: int, fx: float, fy: float, cx: float, cy: float, lens: Distortion | None, tile: int, device: torch.device
) -> Tensor:
    """Directions [H * W, 3] in OpenCV camera axes, tile by tile; kept, because films and viewers move one lens about."""
    order, _ = tile_order(width, height, tile)
    camera = Camera(width, height, fx, fy, cx, cy, np.eye(4), lens)
    return torch.as_tensor(lens_directions(camera, pixel_centres(width, height)), dtype=torch.float32)[order].to(device)


def _choice(field: Field, device: torch.device, settings: RenderSettings) -> tuple[ModuleType | Any, Lowered | None, str]:
    """The operations to use, the lowered field if they can render it in one call, and a sentence."""
    ops = kernels.ops(device)
    if ops is reference:
        # Its render_rays is a definition for parity tests; the rounds here do the same with less memory and work.
        return ops, None, "reference: the reference kernels are in use"
    if settings.normals and torch.is_grad_enabled():
        return ops, None, "reference: differentiable normals need every sample's weight"
    lowered = field.lower()
    if lowered is None:
        return ops, None, f"reference: {field.family} has no fused form"
    reason = ops.supports(lowered)
    if reason is not None:
        return ops, None, f"reference: {reason}"
    return ops, lowered, "fused"
