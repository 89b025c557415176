"""Where samples may lie along a ray: the lattice of docs/architecture.md, and the stretch of a ray it covers."""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import reference
from ..representations.space import Space
from .types import Rays, RenderSettings

REACH = 256.0
"""An unbounded lattice ends at this many box diagonals: behind it lies less than a hundredth of an occupancy cell."""


def lattice_edges(space: Space, settings: RenderSettings, device: torch.device | str = "cpu") -> Tensor:
    """Interval borders [K + 1] float32, world units from a ray's near, edges[0] = 0. Cached; do not write to it.

    Bounded: ``steps`` equal intervals along the box's diagonal. Unbounded: an interval is the longer of that
    and ``cone`` times the distance at which it starts.
    """
    if settings.steps < 1:
        raise ValueError(f"rendering needs at least one step along the diagonal, got {settings.steps}")
    near = settings.near / space.scale if space.unbounded else 0.0
    return _edges(math.hypot(*space.size), settings.steps, settings.cone, near, space.unbounded, str(device))


@lru_cache(maxsize=64)
def _edges(diagonal: float, steps: int, cone: float, near: float, unbounded: bool, device: str) -> Tensor:
    step = diagonal / steps
    if not unbounded:
        distances = np.arange(steps + 1) * step
    else:
        end = REACH * diagonal
        turn = min(step / cone, end) if cone > 0.0 else end  # equal steps until a cone step is longer
        count = max(0, math.ceil((turn - near) / step))
        distances = near + np.arange(count + 1) * step
        last = float(distances[-1])
        if last < end:
            growth = 1.0 + cone
            count = math.ceil(math.log(end / last) / math.log(growth))
            distances = np.concatenate([distances, last * growth ** np.arange(1, count + 1)])
        distances = distances - near
    with torch.inference_mode(False):  # the cached tensor may serve a training step next
        return torch.tensor(distances, dtype=torch.float32, device=device)


def ray_range(space: Space, rays: Rays, settings: RenderSettings, ops: ModuleType | Any = reference) -> tuple[Tensor, Tensor]:
    """Near and far [N] of each ray, world units: where its lattice starts and where no sample can lie any more.

    A ray that misses a bounded box has near >= far; one that holds NaN may get NaN. Marching gives neither a sample.
    """
    least = settings.near / space.scale
    if space.unbounded:
        near = torch.full_like(rays.origins[:, 0], least)
        far = torch.full_like(near, math.inf)
    else:
        near, far = ops.box_range(rays.origins, rays.directions, space.lower, space.upper)
        if least > 0.0:
            near = near.clamp_min(least)
    if settings.far < math.inf:
        far = far.clamp_max(settings.far / space.scale)
    if settings.crop is not None:
        enter, leave = ops.box_range(rays.origins, rays.directions, *settings.crop)
        near, far = torch.maximum(near, enter), torch.minimum(far, leave)
    if rays.near is not None:
        near = torch.maximum(near, rays.near.to(near))
    if rays.far is not None:
        far = torch.minimum(far, rays.far.to(far))
    return near, far
