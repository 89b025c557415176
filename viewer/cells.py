"""Grids of cells as pictures (occupancy, saliency): the first set cell each ray meets, shaded by the face it is entered through."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernels
from ..kernels.cancel import CancelFlag, Cancelled
from ..render.camera import Camera
from ..render.lattice import lattice_edges, ray_range
from ..render.types import Rays, RenderSettings
from ..representations.field import Field
from ..representations.saliency import grids_of, mask_of

CHUNK = 1 << 13
"""Rays marched together; bounds the memory of their packed samples."""


@torch.no_grad()
def render_cells(
    field: Field, bits: Tensor, camera: Camera, settings: RenderSettings, cancel: CancelFlag | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied colour [H, W, 3], distance [H, W] and hit [H, W] in {0, 1}; ``bits`` [R, R, R] lie over the field's space.

    Raises:
        Cancelled: ``cancel`` was set meanwhile.
    """
    rays = camera.rays()
    rays = Rays(rays.origins.to(field.device), rays.directions.to(field.device))
    parts = []
    for begin in range(0, len(rays), CHUNK):
        if cancel is not None and cancel():
            raise Cancelled
        parts.append(_first_cells(field, bits, rays[begin : begin + CHUNK], settings))
    shape = (camera.height, camera.width)
    rgb, depth, hit = (torch.cat(column) for column in zip(*parts, strict=True))
    return rgb.reshape(*shape, 3), depth.reshape(shape), hit.reshape(shape)


def saliency_bits(field: Field) -> Tensor | None:
    """Cells that a hollowed field keeps, bool [R, R, R] as its occupancy; None for a field without a saliency grid."""
    logits, mask = grids_of(field)
    grid = logits if mask is None else mask
    return None if grid is None else mask_of(grid.detach(), field.occupancy.resolution)


def _first_cells(field: Field, bits: Tensor, rays: Rays, settings: RenderSettings) -> tuple[Tensor, Tensor, Tensor]:
    space, device = field.space, rays.origins.device
    ops = kernels.ops(device)
    near, far = ray_range(space, rays, settings, ops)
    middle = torch.full((len(rays),), 0.5, device=device)
    box = (space.lower, space.upper, space.unbounded)
    samples = ops.march(rays.origins, rays.directions, near, far, middle, lattice_edges(space, settings, device), bits, *box)
    offsets, t = samples[3], samples[1]
    counts = offsets[1:] - offsets[:-1]
    found = (counts > 0).nonzero()[:, 0]
    distance = t.index_select(0, offsets[:-1].index_select(0, found))
    directions = rays.directions.index_select(0, found)
    unit = space.to_unit(rays.origins.index_select(0, found) + distance[:, None] * directions)
    cells = unit * bits.shape[0]
    corner = cells.floor()
    # How far back along the ray the cell's three entry faces lie: the last one crossed is the one that is seen.
    step = space.to_unit(rays.origins.index_select(0, found) + (distance[:, None] * (1.0 + 1e-3)) * directions) - unit
    behind = torch.where(step > 0, cells - corner, corner + 1.0 - cells) / step.abs().clamp_min(1e-12)
    light = torch.tensor([0.72, 0.86, 1.0], device=device)[behind.argmin(-1)]
    odd = corner.sum(-1) % 2
    tint = 0.35 + 0.45 * corner / bits.shape[0]
    rgb = torch.zeros(len(rays), 3, device=device)
    depth, hit = torch.zeros(len(rays), device=device), torch.zeros(len(rays), device=device)
    rgb[found] = tint * (light * (0.92 + 0.08 * odd))[:, None]
    depth[found], hit[found] = distance, 1.0
    return rgb, depth, hit
