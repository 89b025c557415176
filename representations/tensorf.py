"""TensoRF (Chen et al. 2022): a volume as sums of products of planes and lines (``vm``) or of lines alone (``cp``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from .. import kernels
from ..kernels.lowered import CPEncoding, VMEncoding
from ..kernels.reference_encode import LINE_AXIS, PLANE_AXES, sample_line, sample_plane
from .field import Field
from .handover import Branch, Encoder, HandoverField
from .heads import APPEARANCE, normal_, uniform_
from .milestones import (
    grid_resolution,
    increasing_shares,
    marks_passed,
    occupied_box,
    rescale_density,
    sample_axes,
    voxels_between,
)
from .options import FieldOptions
from .space import Space

Triple = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TensorOptions(FieldOptions):
    """What ``vm`` and ``cp`` share. Weights and marks are TensoRF's (its configurations for synthetic scenes)."""

    start: int = 128
    """Resolution at the start: the grid has about start^3 voxels, shared out along the axes by the box's shape."""
    final: int = 300
    """Resolution after the last mark, likewise."""
    marks: tuple[float, ...] = (0.067, 0.1, 0.133, 0.183, 0.233)
    """Shares of the training at which the grid is refined (TensoRF: steps 2000 to 7000 of 30000)."""
    shrink: bool = True
    """At each mark, shrink the box to where the occupancy grid found matter (bounded spaces)."""
    shift: float = -4.0
    """Raw log density of an untrained field; low, so that training starts in nearly transparent space."""
    l1_first: float = 8e-5
    """Weight of the mean absolute density factor before the first mark."""
    l1: float = 4e-5
    """The same, from the first mark on."""
    tv_density: float | None = 0.0
    """Weight of the total variation of density factors; none (fields of earlier versions): 0.

    TensoRF has some for real scenes. Here batches are small: most numbers get no gradient from pictures in a step, and Adam moves
    those as fast for the smallest prior as the others for pictures (docs/training.md)."""
    tv_color: float | None = 0.0
    """The same for colour factors."""
    hidden: int = 64
    """Width of the colour network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(2 <= self.start <= 1024, "start", "2 to 1024")
        self.require(self.start <= self.final <= 1024, "final", "start to 1024")
        self.require(increasing_shares(self.marks), "marks", "increasing shares between 0 and 1")
        self.require(-12.0 <= self.shift <= 10.0, "shift", "-12 to 10")
        self.require(self.l1_first >= 0.0, "l1_first", "0 or more")
        self.require(self.l1 >= 0.0, "l1", "0 or more")
        self.require(self.tv_density is None or self.tv_density >= 0.0, "tv_density", "none, 0 or more")
        self.require(self.tv_color is None or self.tv_color >= 0.0, "tv_color", "none, 0 or more")
        self.require(8 <= self.hidden <= 256, "hidden", "8 to 256")

    def voxels(self, marks_done: int) -> float:
        """Number of voxels after so many marks: geometric steps from start^3 to final^3."""
        share = marks_done / len(self.marks) if self.marks else 0.0
        return voxels_between(self.start, self.final, share)


@dataclass(frozen=True)
class VMOptions(TensorOptions):
    """TensoRF's vector-matrix decomposition (VM-192)."""

    density_rank: int = 16
    """Products per mode for density."""
    color_rank: int = 48
    """Products per mode for colour."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1 <= self.density_rank <= 256, "density_rank", "1 to 256")
        self.require(1 <= self.color_rank <= 256, "color_rank", "1 to 256")


@dataclass(frozen=True)
class CPOptions(TensorOptions):
    """TensoRF's CP decomposition (CP-384)."""

    final: int = 500
    """Resolution after the last mark."""
    density_rank: int = 96
    """Products for density."""
    color_rank: int = 288
    """Products for colour."""
    l1_first: float = 1e-5
    """Weight of the mean absolute density factor before the first mark."""
    l1: float = 1e-5
    """The same, from the first mark on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1 <= self.density_rank <= 1024, "density_rank", "1 to 1024")
        self.require(1 <= self.color_rank <= 1024, "color_rank", "1 to 1024")


def layout_of(layout: dict[str, Any] | None, default: tuple[int, int, int], shift: float) -> tuple[tuple[int, int, int], float]:
    """Grid resolution and density shift from a field's layout, or the defaults of a new field.

    Raises:
        ValueError: a loaded layout is not what this family writes.
    """
    if layout is None:
        return default, shift
    grid, number = layout.get("grid"), layout.get("shift")
    if set(layout) != {"grid", "shift"} or not isinstance(grid, list) or len(grid) != 3:
        raise ValueError("key 'layout' is not a grid of three numbers and a shift")
    if not all(type(n) is int and 1 <= n <= 4096 for n in grid):
        raise ValueError("key 'layout.grid' is not three numbers of vertices")
    if not isinstance(number, int | float) or isinstance(number, bool) or not abs(number) < 100.0:
        raise ValueError("key 'layout.shift' is not a log density")
    return (grid[0], grid[1], grid[2]), float(number)


class FactorEncoder(Encoder):
    """Density and colour factors, the appearance basis, and coarse-to-fine refinement."""

    deviation: ClassVar[float]
    done: Tensor

    def __init__(self, options: VMOptions | CPOptions, space: Space, layout: dict[str, Any] | None) -> None:
        super().__init__()
        self.options = options
        self.grid, self.shift = layout_of(layout, grid_resolution(space.size, options.voxels(0)), options.shift)
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    def density_factors(self) -> list[nn.ParameterList]:
        return [factors for name, factors in self.named_children() if name.startswith("density")]  # type: ignore[misc]

    def color_factors(self) -> list[nn.ParameterList]:
        return [factors for name, factors in self.named_children() if name.startswith("color")]  # type: ignore[misc]

    basis: nn.Parameter

    def reset_parameters(self, generator: torch.Generator) -> None:
        for factors in (*self.density_factors(), *self.color_factors()):
            for factor in factors:
                normal_(factor, self.deviation, generator)
        uniform_(self.basis, self.basis.shape[1] ** -0.5, generator)
        self.done.zero_()

    def layout(self) -> dict[str, Any]:
        return {"grid": list(self.grid), "shift": self.shift}

    def parameter_groups(self) -> list[dict[str, Any]]:
        factors = [p for group in (*self.density_factors(), *self.color_factors()) for p in group]
        return [
            {"name": "factors", "params": factors, "lr": 1.0, "sparse": False},
            {"name": "basis", "params": [self.basis], "lr": 0.05, "sparse": False},
        ]

    def regularization(self, step: int) -> Tensor | None:
        """L1 of the density factors (TensoRF, eq. 14), and total variation (eq. 15) where asked for."""
        terms = []
        weight = self.options.l1 if int(self.done) else self.options.l1_first
        if weight:
            mean_abs = kernels.ops(self.basis.device).mean_abs
            terms += [weight * mean_abs(factor) for group in self.density_factors() for factor in group]
        for strength, groups in ((self.options.tv_density, self.density_factors()), (self.options.tv_color, self.color_factors())):
            if strength:
                terms += [strength * total_variation(factor) for group in groups for factor in group]
        return torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def milestone(self, field: Field, progress: float) -> bool:
        marks = marks_passed(self.options.marks, progress)
        if marks <= int(self.done):
            return False
        self.done.fill_(marks)
        old, new = field.space, field.space
        if self.options.shrink and not old.unbounded:
            new = occupied_box(field) or old
        self.resample(old, new, grid_resolution(new.size, self.options.voxels(marks)))
        if new is not old:
            self.shift += rescale_density(field, new)
        return True

    def resample(self, old: Space, new: Space, grid: tuple[int, int, int]) -> None:
        """Read every factor at the vertices of another grid, over the same box or one inside it."""
        self.grid = grid
        self._resample(sample_axes(old, new, grid, self.basis.device))

    def _resample(self, axes: Sequence[Tensor]) -> None:
        raise NotImplementedError


def total_variation(factor: Tensor) -> Tensor:
    """Mean squared difference of neighbours along each axis of a plane [B, A, C] or line [R, C], times two (TensoRF's TVLoss)."""
    total = (factor[1:] - factor[:-1]).square().mean()
    if factor.dim() == 3:
        total = total + (factor[:, 1:] - factor[:, :-1]).square().mean()
    return 2.0 * total


def triple(factors: nn.ParameterList) -> Triple:
    return cast(Triple, tuple(factors))


class VMEncoder(FactorEncoder):
    """Three planes, each times the line of the remaining axis, for density and for colour."""

    deviation = 0.1

    def __init__(self, options: VMOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, layout)
        for name, rank in (("density", options.density_rank), ("color", options.color_rank)):
            planes = [nn.Parameter(torch.empty(self.grid[b], self.grid[a], rank)) for a, b in PLANE_AXES]
            lines = [nn.Parameter(torch.empty(self.grid[c], rank)) for c in LINE_AXIS]
            setattr(self, f"{name}_planes", nn.ParameterList(planes))
            setattr(self, f"{name}_lines", nn.ParameterList(lines))
        self.basis = nn.Parameter(torch.empty(APPEARANCE, 3 * options.color_rank))

    density_planes: nn.ParameterList
    density_lines: nn.ParameterList
    color_planes: nn.ParameterList
    color_lines: nn.ParameterList

    def density_products(self, unit: Tensor) -> Tensor:
        """[N, 3 * density_rank], mode-major."""
        products: Tensor = kernels.ops(unit.device).vm_products(unit, triple(self.density_planes), triple(self.density_lines))
        return products

    def appearance(self, unit: Tensor) -> Tensor:
        """The hand-over's 15 appearance numbers [N, 15]."""
        products: Tensor = kernels.ops(unit.device).vm_products(unit, triple(self.color_planes), triple(self.color_lines))
        return products @ self.basis.t()

    def forward(self, unit: Tensor) -> Tensor:
        return torch.cat([self.density_products(unit).sum(-1, keepdim=True) + self.shift, self.appearance(unit)], -1)

    def lower(self) -> Branch:
        encoding = VMEncoding(
            triple(self.density_planes),
            triple(self.density_lines),
            triple(self.color_planes),
            triple(self.color_lines),
            self.basis,
            self.shift,
        )
        return encoding, ()

    def _resample(self, axes: Sequence[Tensor]) -> None:
        for planes in (self.density_planes, self.color_planes):
            for mode, (a, b) in enumerate(PLANE_AXES):
                u = axes[a].expand(len(axes[b]), -1).reshape(-1)
                v = axes[b][:, None].expand(-1, len(axes[a])).reshape(-1)
                planes[mode] = nn.Parameter(sample_plane(u, v, planes[mode]).view(len(axes[b]), len(axes[a]), -1).contiguous())
        for lines in (self.density_lines, self.color_lines):
            for mode, c in enumerate(LINE_AXIS):
                lines[mode] = nn.Parameter(sample_line(axes[c], lines[mode]))


class CPEncoder(FactorEncoder):
    """Products of three lines, for density and for colour."""

    deviation = 0.2

    def __init__(self, options: CPOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, layout)
        self.density_lines = nn.ParameterList(nn.Parameter(torch.empty(n, options.density_rank)) for n in self.grid)
        self.color_lines = nn.ParameterList(nn.Parameter(torch.empty(n, options.color_rank)) for n in self.grid)
        self.basis = nn.Parameter(torch.empty(APPEARANCE, options.color_rank))

    def forward(self, unit: Tensor) -> Tensor:
        ops = kernels.ops(unit.device)
        density = ops.cp_products(unit, triple(self.density_lines))
        color = ops.cp_products(unit, triple(self.color_lines))
        return torch.cat([density.sum(-1, keepdim=True) + self.shift, color @ self.basis.t()], -1)

    def lower(self) -> Branch:
        return CPEncoding(triple(self.density_lines), triple(self.color_lines), self.basis, self.shift), ()

    def _resample(self, axes: Sequence[Tensor]) -> None:
        for lines in (self.density_lines, self.color_lines):
            for axis in range(3):
                lines[axis] = nn.Parameter(sample_line(axes[axis], lines[axis]))


class VMField(HandoverField):
    """Compact and smooth; its factors are images, easy to edit, upsample and compress."""

    family: ClassVar[str] = "vm"
    network_rate: ClassVar[float] = 0.05
    options: VMOptions

    def __init__(self, options: VMOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, VMEncoder(options, space, layout), options.hidden)


class CPField(HandoverField):
    """The smallest of all grids, at the price of detail."""

    family: ClassVar[str] = "cp"
    network_rate: ClassVar[float] = 0.05
    options: CPOptions

    def __init__(self, options: CPOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, CPEncoder(options, space, layout), options.hidden)
