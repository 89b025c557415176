"""The variation field: where in space pictures change over time (MixVoxels, section 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import kernels
from ..kernels.reference_encode import LINE_AXIS, PLANE_AXES, sample_line, sample_plane
from .heads import normal_
from .milestones import grid_resolution, voxels_between
from .space import Space
from .tensorf import triple

_CHUNK = 1 << 18


class VariationField(nn.Module):
    """Planes times lines whose sum is the logit of "what is here moves".

    A ray's logit is the greatest of its samples', so that a ray that changes needs one moving place, and one that does not
    must have none. MixVoxels gives the xy plane more products, because its scenes face forward; here all planes are equal.
    """

    def __init__(self, space: Space, resolution: int, rank: int = 8, shift: float = -2.0) -> None:
        super().__init__()
        self.space, self.rank, self.shift = space, rank, shift
        self._grid = grid_resolution(space.size, float(resolution) ** 3)
        self.planes = nn.ParameterList(nn.Parameter(torch.empty(self._grid[b], self._grid[a], rank)) for a, b in PLANE_AXES)
        self.lines = nn.ParameterList(nn.Parameter(torch.empty(self._grid[c], rank)) for c in LINE_AXIS)

    def reset_parameters(self, generator: torch.Generator) -> None:
        for factor in self.parameters():
            normal_(factor, 0.1, generator)

    def forward(self, unit: Tensor) -> Tensor:
        """Logits [N] at unit coordinates [N, 3]."""
        products: Tensor = kernels.ops(unit.device).vm_products(unit, triple(self.planes), triple(self.lines))
        return products.sum(-1) + self.shift

    @torch.no_grad()
    def refine(self, resolution: int) -> None:
        """Read every factor at the vertices of a finer grid."""
        grid = grid_resolution(self.space.size, float(resolution) ** 3)
        axes = [torch.linspace(0.0, 1.0, count, device=self.planes[0].device) for count in grid]
        for mode, (a, b) in enumerate(PLANE_AXES):
            u = axes[a].expand(grid[b], -1).reshape(-1)
            v = axes[b][:, None].expand(-1, grid[a]).reshape(-1)
            self.planes[mode] = nn.Parameter(sample_plane(u, v, self.planes[mode]).view(grid[b], grid[a], -1).contiguous())
        for mode, c in enumerate(LINE_AXIS):
            self.lines[mode] = nn.Parameter(sample_line(axes[c], self.lines[mode]))
        self._grid = grid

    @torch.no_grad()
    def cells(self, resolution: int, threshold: float, reach: int) -> Tensor:
        """Cells that move, bool [R, R, R]: the probability is above ``threshold`` at their centre or that of a cell at most ``reach`` away.

        The reach takes the place of MixVoxels' max-pooling along the ray.
        """
        n, device = resolution, self.planes[0].device
        limit = math.log(threshold / (1.0 - threshold))
        found = torch.zeros(n**3, dtype=torch.bool, device=device)
        for part in torch.split(torch.arange(n**3, device=device), _CHUNK):
            index = torch.stack([part // (n * n), part // n % n, part % n], -1)
            found[part] = self((index + 0.5) / n) > limit
        return F.max_pool3d(found.view(1, 1, n, n, n).float(), 2 * reach + 1, stride=1, padding=reach)[0, 0] > 0


def variation_resolution(start: int, final: int, share: float) -> int:
    """Resolution of the variation field when ``share`` of the marks are passed."""
    return round(voxels_between(start, final, share) ** (1.0 / 3.0))
