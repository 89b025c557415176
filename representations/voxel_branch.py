"""Voxels as a branch of a composition: each vertex holds PVD's 16 hand-over numbers, editable one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import kernels
from ..kernels.lowered import VoxelEncoding
from .field import Field
from .handover import Branch, Encoder
from .heads import APPEARANCE
from .milestones import grid_resolution, marks_passed, sample_axes, voxels_between
from .space import Space


class VoxelEncoder(Encoder):
    """A dense trilinear grid of the 16 numbers, refined at the marks; the box stays."""

    done: Tensor

    def __init__(self, start: int, final: int, marks: tuple[float, ...], space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.start, self.final, self.marks = start, final, marks
        self.grid = grid_resolution(space.size, float(start) ** 3) if layout is None else _grid_of(layout)
        self._links: Tensor | None = None
        rows = self.grid[0] * self.grid[1] * self.grid[2]
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.density = nn.Parameter(torch.empty(rows))
        self.features = nn.Parameter(torch.empty(rows, APPEARANCE))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Nothing at first: the other branches and the photographs break the symmetry."""
        self.density.zero_()
        self.features.zero_()
        self.done.zero_()

    def layout(self) -> dict[str, Any]:
        return {"grid": list(self.grid)}

    @property
    def links(self) -> Tensor:
        """[X, Y, Z] int32: the vertices in order; they follow from the grid and are not saved."""
        if self._links is None or self._links.shape != self.grid or self._links.device != self.density.device:
            rows = self.density.shape[0]
            self._links = torch.arange(rows, dtype=torch.int32, device=self.density.device).view(self.grid)
        return self._links

    def forward(self, unit: Tensor) -> Tensor:
        numbers = torch.cat([self.density[:, None], self.features], -1)
        return kernels.ops(unit.device).voxel_interpolate(unit, self.links, numbers, 0.0)

    def lower(self) -> Branch:
        return VoxelEncoding(self.links, self.density, self.features, 0.0), ()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"name": "density", "params": [self.density], "lr": 5.0, "sparse": True},
            {"name": "features", "params": [self.features], "lr": 2.0, "sparse": True},
        ]

    @torch.no_grad()
    def milestone(self, field: Field, progress: float) -> bool:
        passed = marks_passed(self.marks, progress)
        if passed <= int(self.done):
            return False
        self.done.fill_(passed)
        grid = grid_resolution(field.space.size, voxels_between(self.start, self.final, passed / len(self.marks)))
        axes = sample_axes(field.space, field.space, grid, self.density.device)
        unit = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
        numbers = self.forward(unit)
        self.grid = grid
        self.density, self.features = nn.Parameter(numbers[:, 0].contiguous()), nn.Parameter(numbers[:, 1:].contiguous())
        return True


def _grid_of(layout: dict[str, Any]) -> tuple[int, int, int]:
    """Raises:
    ValueError: the layout is not what this branch writes.
    """
    grid = layout.get("grid")
    if set(layout) != {"grid"} or not isinstance(grid, list) or len(grid) != 3:
        raise ValueError("key 'layout' of a voxel branch is not a grid of three numbers")
    if not all(type(n) is int and 1 <= n <= 4096 for n in grid) or grid[0] * grid[1] * grid[2] > 1 << 27:
        raise ValueError("key 'layout.grid' of a voxel branch is not three possible numbers of vertices")
    return grid[0], grid[1], grid[2]
