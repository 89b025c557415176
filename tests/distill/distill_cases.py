"""A teacher that needs no training, a soft ball of voxels, and small settings of every family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fieldmorph.distill import DistillOptions
from fieldmorph.render.camera import Camera, look_at
from fieldmorph.representations.field import Field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
SMALL: dict[str, dict[str, Any]] = {
    "hashgrid": {"levels": 4, "features": 4, "log2_table": 12, "base": 8, "finest": 64, "hidden": 16, "occupancy": 32},
    "vm": {"start": 24, "final": 32, "density_rank": 6, "color_rank": 8, "hidden": 16, "occupancy": 32},
    "cp": {"start": 24, "final": 32, "density_rank": 24, "color_rank": 32, "hidden": 16, "occupancy": 32},
    "voxels": {"start": 24, "final": 32, "degree": 2, "occupancy": 32},
    "mlp": {"octaves": 5, "layers": 4, "width": 48, "encoded": 16, "hidden": 16, "occupancy": 32},
    "hybrid": {"levels": 4, "log2_table": 10, "base": 8, "finest": 64, "start": 16, "final": 24, "hidden": 16, "occupancy": 32},
}


def cameras(count: int = 12, radius: float = 4.0) -> list[Camera]:
    poses = []
    for i, turn in enumerate(np.arange(count) * 2 * math.pi / count):
        elevation = 0.2 + 0.6 * (i % 2)
        arm = np.array([math.cos(elevation) * math.cos(turn), math.cos(elevation) * math.sin(turn), math.sin(elevation)])
        poses.append(look_at(radius * arm, (0.0, 0.0, 0.0)))
    return [Camera.perspective(40, 40, 30.0, pose) for pose in poses]


def ball() -> Field:
    """Voxels that hold a soft ball of radius 0.6, its colour a smooth function of the place."""
    field = build("voxels", SMALL["voxels"], BOX, 0)
    grid = field.grid
    axes = [torch.linspace(-1.0, 1.0, n) for n in grid]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
    with torch.no_grad():
        field.density_data.copy_((40.0 * (0.6 - x.norm(dim=-1))).clamp(-9.0, 4.5))
        shape = field.sh_data.view(len(x), 3, -1)
        shape[:, :, 0] = 4.0 * torch.sin(3.0 * x + torch.tensor([0.0, 1.0, 2.0]))
        shape[:, :, 1:] = 0.5 * x[:, :, None]
    n = field.occupancy.resolution
    cell = (torch.stack(torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij"), -1) + 0.5) / n * 2.0 - 1.0
    field.occupancy.restrict(cell.norm(dim=-1) < 0.8)
    field.metadata.update(cameras=[c.to_dict() for c in cameras()], background="white", near=0.0, history=["ball"])
    return field


def options(to: str, **more: Any) -> DistillOptions:
    """A short, repeatable distillation into a small field."""
    settings: dict[str, Any] = {"steps": 150, "samples": 2048, "view_seconds": 0.0, "device": "cpu", "family_options": SMALL[to]}
    return DistillOptions(to=to, **{**settings, **more})
