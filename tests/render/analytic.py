"""Fields whose pictures are known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fieldmorph.representations.field import Field, Geometry
from fieldmorph.representations.space import Space

UNIT_BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


class Ball(Field):
    """Constant density and colour inside a ball (or the whole space), nothing elsewhere."""

    family = "analytic"

    def __init__(
        self, density: float, radius: float = math.inf, space: Space = UNIT_BOX, centre: tuple[float, float, float] = (0, 0, 0)
    ) -> None:
        super().__init__(None, space, occupancy_resolution=32)
        self.log_density = nn.Parameter(torch.tensor(math.log(density)))
        self.rgb = nn.Parameter(torch.tensor([0.2, 0.5, 0.9]))
        self.radius, self.centre, self.evaluations = radius, torch.tensor(centre, dtype=torch.float32), 0

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        self.evaluations += len(positions)
        inside = self.space.contains(positions)
        if math.isfinite(self.radius):
            inside = inside & ((positions - self.centre).norm(dim=-1) < self.radius)
        return Geometry(self.log_density.expand(len(positions)), inside.float(), positions)

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        return self.rgb.expand(len(features), 3)


class SoftBall(Ball):
    """Density falls smoothly around a sphere of radius 0.5, so that its gradient is radial everywhere."""

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        distance = (positions - self.centre).norm(dim=-1)
        inside = self.space.contains(positions)
        return Geometry(self.log_density - 40.0 * (distance - 0.5), inside.float(), positions)
