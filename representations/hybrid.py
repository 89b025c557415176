"""Compositions: several encoders whose hand-over numbers are summed before the colour network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..kernels.lowered import CPEncoding, GridEncoding, HybridEncoding, VMEncoding
from .field import Field
from .handover import Encoder, HandoverField
from .hashgrid import GridEncoder, HashGridOptions
from .milestones import increasing_shares
from .options import FieldOptions
from .packing import Part
from .space import Space
from .tensorf import CPEncoder, CPOptions, FactorEncoder, VMEncoder, VMOptions

FactorOptions = TypeVar("FactorOptions", VMOptions, CPOptions)

FACTOR_RATE = 2.0
"""Learning rate of planes and lines relative to tables: TensoRF's 0.02 to Instant-NGP's 0.01."""


@dataclass(frozen=True)
class HybridOptions(FieldOptions):
    """A sum of branches, by default a small hash grid for detail and planes and lines for the smooth rest."""

    branches: tuple[Literal["hashgrid", "vm", "cp"], ...] = ("hashgrid", "vm")
    """The encoders that are summed."""
    levels: int = 8
    """hashgrid: resolutions."""
    features: int = 4
    """hashgrid: numbers per table row."""
    log2_table: int = 15
    """hashgrid: rows of a hashed level, as a power of two."""
    base: int = 16
    """hashgrid: coarsest resolution."""
    finest: int = 512
    """hashgrid: finest resolution."""
    encoding: Literal["hash", "dense", "tiled"] = "hash"
    """hashgrid: what a level too fine for the table does."""
    start: int = 64
    """vm and cp: resolution at the start."""
    final: int = 160
    """vm and cp: resolution after the last mark."""
    marks: tuple[float, ...] = (0.067, 0.133, 0.233)
    """vm and cp: shares of the training at which they are refined."""
    density_rank: int = 8
    """vm and cp: products (per mode) for density."""
    color_rank: int = 24
    """vm and cp: products (per mode) for colour."""
    l1: float = 4e-5
    """vm and cp: weight of the mean absolute density factor."""
    hidden: int = 64
    """Width of the hidden layers of all networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1 <= len(self.branches) <= 4, "branches", "1 to 4 of hashgrid, vm and cp")
        self.require(increasing_shares(self.marks), "marks", "increasing shares between 0 and 1")
        self.grid()
        self.factors(VMOptions)

    def grid(self) -> HashGridOptions:
        """Options of a hash-grid branch."""
        return HashGridOptions(
            levels=self.levels,
            features=self.features,
            log2_table=self.log2_table,
            base=self.base,
            finest=self.finest,
            encoding=self.encoding,
            hidden=self.hidden,
        )

    def factors(self, kind: type[FactorOptions]) -> FactorOptions:
        """Options of a plane or line branch; the hash grid's table cannot follow a shrinking box, so the box stays."""
        return kind(
            start=self.start,
            final=self.final,
            marks=self.marks,
            shrink=False,
            shift=0.0,
            l1_first=self.l1,
            l1=self.l1,
            density_rank=self.density_rank,
            color_rank=self.color_rank,
        )


class HybridEncoder(Encoder):
    """The sum of its branches' hand-over numbers; ``branches.i`` holds the parameters of branch i."""

    def __init__(self, options: HybridOptions, space: Space, layout: dict[str, Any] | None) -> None:
        super().__init__()
        layouts: list[dict[str, Any] | None] = [None] * len(options.branches)
        if layout is not None:
            given = layout.get("branches")
            ok = set(layout) == {"branches"} and isinstance(given, list) and len(given) == len(options.branches)
            if not ok or not all(isinstance(part, dict) for part in cast(list[Any], given)):
                raise ValueError("key 'layout' is not one table per branch")
            layouts = cast(list[dict[str, Any] | None], given)
        branches: list[Encoder] = []
        for kind, part in zip(options.branches, layouts, strict=True):
            if kind == "hashgrid":
                branches.append(GridEncoder(options.grid()))
            elif kind == "vm":
                branches.append(VMEncoder(options.factors(VMOptions), space, part))
            else:
                branches.append(CPEncoder(options.factors(CPOptions), space, part))
        self.branches = nn.ModuleList(branches)

    @property
    def encoders(self) -> list[Encoder]:
        return [cast(Encoder, branch) for branch in self.branches]

    def reset_parameters(self, generator: torch.Generator) -> None:
        for branch in self.encoders:
            branch.reset_parameters(generator)

    def layout(self) -> dict[str, Any]:
        return {"branches": [branch.layout() for branch in self.encoders]}

    def forward(self, unit: Tensor) -> Tensor:
        return torch.stack([branch(unit) for branch in self.encoders]).sum(0)

    def lower(self) -> tuple[HybridEncoding, tuple[Tensor, ...]]:
        parts = []
        for branch in self.encoders:
            encoding, head = branch.lower() or (None, ())
            assert isinstance(encoding, GridEncoding | VMEncoding | CPEncoding)
            parts.append((encoding, head))
        return HybridEncoding(tuple(parts)), ()

    def packing(self, bits: NDArray[np.bool_]) -> dict[str, list[Part]]:
        return {f"branches.{i}.{name}": parts for i, branch in enumerate(self.encoders) for name, parts in branch.packing(bits).items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = []
        for index, branch in enumerate(self.encoders):
            factor = FACTOR_RATE if isinstance(branch, FactorEncoder) else 1.0
            groups += [{**g, "name": f"branch {index} {g['name']}", "lr": g["lr"] * factor} for g in branch.parameter_groups()]
        return groups

    def regularization(self, step: int) -> Tensor | None:
        terms = [term for branch in self.encoders if (term := branch.regularization(step)) is not None]
        return torch.stack(terms).sum() if terms else None

    def milestone(self, field: Field, progress: float) -> bool:
        changed = [branch.milestone(field, progress) for branch in self.encoders]  # every branch, not only up to the first
        return any(changed)


class HybridField(HandoverField):
    """Detail from a small table, smoothness from planes and lines."""

    family: ClassVar[str] = "hybrid"
    options: HybridOptions

    def __init__(self, options: HybridOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, HybridEncoder(options, space, layout), options.hidden)
