"""Plenoxels (Fridovich-Keil, Yu et al. 2022): a voxel grid of densities and spherical harmonics, no network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import kernels
from ..kernels.lowered import Lowered, VoxelEncoding
from ..kernels.reference import inside_unit
from ..kernels.reference_encode import voxel_corners
from .field import Field, Geometry
from .milestones import grid_resolution, increasing_shares, marks_passed, occupied_box, rescale_density, sample_axes, voxels_between
from .options import FieldOptions
from .packing import Part
from .space import Space
from .voxel_penalty import voxel_penalty

_CHUNK = 1 << 20


@dataclass(frozen=True)
class VoxelOptions(FieldOptions):
    """Trilinear voxel grid with spherical harmonics (Plenoxels, section 3)."""

    start: int = 64
    """Resolution at the start: about start^3 voxels, shared out along the axes by the box's shape."""
    final: int = 192
    """Resolution after the last mark, likewise, as far as ``max_rows`` allows."""
    marks: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35)
    """Shares of the training at which empty voxels are pruned and the rest refined (Plenoxels: 3 of 10 epochs); a mark
    at 0 prunes what the silhouettes rule out and keeps the resolution."""
    shrink: bool = True
    """At each mark, shrink the box to where the occupancy grid found matter (bounded spaces)."""
    max_rows: int = 1_000_000
    """Most vertices a refined grid may keep; the resolution gives way. A step's cost on a CPU is mostly their memory."""
    degree: int = 3
    """Spherical-harmonic degree: degree^2 coefficients per colour channel."""
    init: float = -2.0
    """Raw log density of an untrained voxel; low, so that training starts in nearly transparent space."""
    empty: float = -10.0
    """Raw log density that a pruned vertex counts as."""
    tv_density: float = 1e-5
    """Weight of the total variation of raw log density."""
    tv_sh: float = 1e-3
    """Weight of the total variation of the coefficients."""
    sparsity: float = 1e-5
    """Weight of the Cauchy penalty log(1 + 2 density^2) (Plenoxels, eq. 5)."""
    subset: float = 0.003
    """Share of the voxels that the penalties of one step look at (Plenoxels: 0.01, on a GPU)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(2 <= self.start <= 512, "start", "2 to 512")
        self.require(self.start <= self.final <= 1024, "final", "start to 1024")
        self.require(increasing_shares(self.marks), "marks", "increasing shares between 0 and 1")
        self.require(8 <= self.max_rows <= 1 << 27, "max_rows", "8 to 134217728")
        self.require(1 <= self.degree <= 4, "degree", "1 to 4")
        self.require(-12.0 <= self.init <= 10.0, "init", "-12 to 10")
        self.require(-30.0 <= self.empty <= 10.0, "empty", "-30 to 10")
        for name in ("tv_density", "tv_sh", "sparsity"):
            self.require(getattr(self, name) >= 0.0, name, "0 or more")
        self.require(0.0 < self.subset <= 1.0, "subset", "more than 0, at most 1")


def _layout_of(layout: dict[str, Any]) -> tuple[tuple[int, int, int], int]:
    """Grid and number of rows of a loaded layout.

    Raises:
        ValueError: it is not what this family writes.
    """
    grid, rows = layout.get("grid"), layout.get("rows")
    if set(layout) != {"grid", "rows"} or not isinstance(grid, list) or len(grid) != 3:
        raise ValueError("key 'layout' is not a grid of three numbers and rows")
    if not all(type(n) is int and 1 <= n <= 4096 for n in grid):
        raise ValueError("key 'layout.grid' is not three numbers of vertices")
    if type(rows) is not int or not 0 <= rows <= grid[0] * grid[1] * grid[2] or grid[0] * grid[1] * grid[2] > 1 << 31:
        raise ValueError("key 'layout.rows' is not a possible number of vertices")
    return (grid[0], grid[1], grid[2]), rows


class VoxelField(Field):
    """The fastest to render; large, editable voxel by voxel, and without a hand-over of PVD's kind."""

    family: ClassVar[str] = "voxels"
    has_handover: ClassVar[bool] = False
    render_steps: ClassVar[int] = 512  # a step is shorter than a voxel; 1024 change lego's pictures by less than 0.01 dB
    options: VoxelOptions
    links: Tensor
    """[X, Y, Z] int32 row of each vertex, -1 where it is pruned."""
    done: Tensor

    def __init__(self, options: VoxelOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, options.occupancy)
        if layout is None:
            grid = grid_resolution(space.size, options.start**3)
            rows = grid[0] * grid[1] * grid[2]
        else:
            grid, rows = _layout_of(layout)
        self.register_buffer("links", torch.empty(grid, dtype=torch.int32))
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self._vertices: Tensor | None = None  # derived from links when first needed
        self.density_data = nn.Parameter(torch.empty(rows))
        self.sh_data = nn.Parameter(torch.empty(rows, 3 * options.degree**2))

    @property
    def grid(self) -> tuple[int, int, int]:
        x, y, z = self.links.shape
        return x, y, z

    @property
    def rows(self) -> int:
        return self.density_data.shape[0]

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """A dense, grey, nearly transparent grid. Nothing is random: the photographs break the symmetry."""
        self.links.copy_(torch.arange(self.links.numel(), dtype=torch.int32).view(self.links.shape))
        self.density_data.fill_(self.options.init)
        self.sh_data.zero_()
        self.done.zero_()

    def layout(self) -> dict[str, Any]:
        return {"grid": list(self.grid), "rows": self.rows}

    def packing(self) -> dict[str, list[Part]]:
        """Rows lie in the order of their vertices, as :meth:`resample` leaves them, so that neighbours predict each other."""
        cells = (self.links.view(-1) >= 0).nonzero()[:, 0].cpu().numpy()
        x, y, z = self.grid
        part = Part(0, self.rows, x, y * z, cells) if len(cells) == self.rows else Part(0, self.rows, self.rows)
        return {"density_data": [replace(part, logarithmic=True)], "sh_data": [part]}

    def check_content(self) -> None:
        if self.links.numel() and not -1 <= int(self.links.min()) <= int(self.links.max()) < self.rows:
            raise ValueError(f"tensor 'links' points outside its {self.rows} rows")

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        unit = self.space.to_unit(positions)
        ops = kernels.ops(unit.device)
        s = ops.voxel_interpolate(unit, self.links, self.density_data[:, None], self.options.empty)[:, 0]
        sh = ops.voxel_interpolate(unit, self.links, self.sh_data, 0.0)
        gate = inside_unit(unit)
        if self.rows < self.links.numel():
            gate = gate & (voxel_corners(unit, self.links)[0] >= 0).any(-1)
        return Geometry(s, gate.to(s.dtype), sh)

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        basis = kernels.ops(features.device).spherical_harmonics(directions, self.options.degree).to(features.dtype)
        return torch.sigmoid((features.reshape(-1, 3, basis.shape[-1]) * basis[:, None]).sum(-1))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"name": "density", "params": [self.density_data], "lr": 1.0, "sparse": True},
            {"name": "coefficients", "params": [self.sh_data], "lr": 0.4, "sparse": True},
            *self.background_group(),
        ]

    def lower(self) -> Lowered:
        encoding = VoxelEncoding(self.links, self.density_data, self.sh_data, self.options.empty)
        return Lowered(self.space.lower, self.space.upper, self.space.unbounded, encoding, (), ())

    def regularization(self, step: int) -> Tensor | None:
        """Total variation and sparsity of a run of consecutive voxels that moves about with ``step`` (Plenoxels, eq. 3 to 5).

        Gradients come as sparse tensors: a step touches only the rows it looked at.
        """
        options = self.options
        for parameter in (self.density_data, self.sh_data):
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)  # a dense one takes in sparse ones; none would become sparse
        if not (options.tv_density or options.tv_sh or options.sparsity) or not self.rows:
            return None
        here, neighbours = self._penalised(step)
        if not here.numel():
            return None
        weights = (options.tv_density, options.tv_sh, options.sparsity)
        return voxel_penalty(self.density_data, self.sh_data, here, neighbours, *weights)

    def _penalised(self, step: int) -> tuple[Tensor, Tensor]:
        """A run of consecutive rows [n], and the rows [n, 3] of their next neighbours along x, y, z (-1: none)."""
        if self._vertices is None or self._vertices.shape[0] != self.rows or self._vertices.device != self.links.device:
            self._vertices = self.vertices()
        _, y_size, z_size = self.grid
        flat = self.links.view(-1)
        count = max(1, int(self.options.subset * self.rows))
        start = int(torch.randint(self.rows, (1,), generator=torch.Generator().manual_seed(step)))
        here = torch.arange(start, min(start + count, self.rows), device=flat.device)
        vertex = self._vertices[here]
        neighbours = []
        for stride, size in ((y_size * z_size, self.grid[0]), (z_size, y_size), (1, z_size)):
            inside = vertex // stride % size < size - 1
            neighbours.append(torch.where(inside, flat[torch.where(inside, vertex + stride, vertex)].long(), -1))
        return here, torch.stack(neighbours, -1)

    def vertices(self) -> Tensor:
        """Flat index of the vertex that links to each row, [rows]; rows nobody links to get vertex 0."""
        flat = self.links.view(-1)
        linked = (flat >= 0).nonzero()[:, 0]
        vertices = torch.zeros(self.rows, dtype=torch.int64, device=flat.device)
        vertices[flat[linked].long()] = linked
        return vertices

    @torch.no_grad()
    def milestone(self, progress: float) -> bool:
        marks = marks_passed(self.options.marks, progress)
        if marks <= int(self.done):
            return False
        self.done.fill_(marks)
        old, new = self.space, self.space
        if self.options.shrink and not old.unbounded:
            new = occupied_box(self) or old
        first = 1 if self.options.marks[0] == 0.0 else 0  # a mark at 0 prunes without refining
        share = (marks - first) / max(1, len(self.options.marks) - first)
        self.resample(new, voxels_between(self.options.start, self.options.final, share))
        return True

    @torch.no_grad()
    def resample(self, new: Space, voxels: float) -> None:
        """Prune what the occupancy grid calls empty; read the rest at the vertices of another grid over the same box or one inside it."""
        old = self.space
        while True:
            grid = grid_resolution(new.size, voxels)
            axes = sample_axes(old, new, grid, self.links.device)
            keep = self.near_matter(axes)
            kept = int(keep.sum())
            if kept <= self.options.max_rows:
                break
            voxels *= max(0.5, 0.98 * self.options.max_rows / kept)
        links = torch.full(grid, -1, dtype=torch.int32, device=keep.device)
        links[keep] = torch.arange(kept, dtype=torch.int32, device=keep.device)
        index = keep.nonzero()
        density, sh = self.density_data.new_empty(kept), self.sh_data.new_empty(kept, self.sh_data.shape[1])
        ops = kernels.ops(self.links.device)
        for begin in range(0, kept, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            unit = torch.stack([axis[index[part, a]] for a, axis in enumerate(axes)], -1)
            density[part] = ops.voxel_interpolate(unit, self.links, self.density_data[:, None], self.options.empty)[:, 0]
            sh[part] = ops.voxel_interpolate(unit, self.links, self.sh_data, 0.0)
        if new is not old:
            density += rescale_density(self, new)
        self.take(links, density, sh)

    def take(self, links: Tensor, density: Tensor, sh: Tensor) -> None:
        """Become another grid: links [X, Y, Z] int32, density [rows], sh [rows, 3 B]."""
        self.links, self._vertices = links, None
        self.density_data, self.sh_data = nn.Parameter(density), nn.Parameter(sh)

    def near_matter(self, axes: list[Tensor]) -> Tensor:
        """Vertices (at old unit coordinates along each axis) with an occupied cell at most one voxel and one cell away."""
        n = self.occupancy.resolution
        reach = [max(1, math.ceil(n * float(axis[1] - axis[0]))) for axis in axes]
        kernel = tuple(2 * r + 1 for r in reach)
        cells = F.max_pool3d(self.occupancy.bits[None, None].float(), kernel, stride=1, padding=tuple(reach))[0, 0] > 0
        x, y, z = ((axis * n).long().clamp(0, n - 1) for axis in axes)
        return cells[x][:, y][:, :, z]
