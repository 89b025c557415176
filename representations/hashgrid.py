"""Instant-NGP's multi-resolution grid (Mueller et al. 2022): hashed, dense or tiled levels and two small networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import kernels
from ..kernels.derived import Derived
from ..kernels.lowered import DENSE, HASHED, TILED, GridEncoding, GridLayout
from ..kernels.reference import Evaluation
from ..kernels.reference_layers import occupied
from ..kernels.reference_saliency import CLOSED, CUT, saliency_at, zero_skip
from .field import Geometry
from .handover import Branch, Encoder, HandoverField
from .heads import density_head, uniform_
from .options import FieldOptions
from .packing import Part, grid_parts, reached
from .saliency import mask_of
from .space import Space

_open_cells = Derived()
MAX_ROWS = 1 << 26
SALIENCY_RATE = 0.5
"""Learning rate of the saliency logits relative to the table's; they have to travel from ``SALIENCY_START`` to beyond -7."""
HOLLOW_START = 1e-2
"""Largest number of an untrained table behind a saliency grid. At Instant-NGP's 1e-4 the zero-skipping gate is not quite open, and
steep."""
SALIENCY_START = 3.0
"""Logit of an untrained saliency grid, a saliency of 0.95: from one half features grow more slowly than without the gate."""


@dataclass(frozen=True)
class HashGridOptions(FieldOptions):
    """Multi-resolution grid of trainable features (Instant-NGP, sections 3 and 4)."""

    levels: int = 8
    """Resolutions, in geometric progression from ``base`` to ``finest``."""
    features: int = 4
    """Numbers per table row; levels x features is the width of the encoding."""
    log2_table: int = 17
    """Rows of a hashed or tiled level, as a power of two."""
    base: int = 16
    """Cells along a side at the coarsest level."""
    finest: int = 0
    """Cells along a side at the finest level; 0: 512, or 173 for dense levels (instant-ngp's dense configuration).

    Instant-NGP's 2048 is for pictures of 800x800 and more: levels finer than the march's step cost quality (docs/training.md)."""
    encoding: Literal["hash", "dense", "tiled"] = "hash"
    """What a level too fine for the table does: hash its vertices, repeat the table (tiled), or get a table of its own (dense)."""
    hidden: int = 64
    """Width of the hidden layers of both networks."""
    saliency: int = 0
    """Vertices along a side of a trainable saliency grid that gates the features (HollowNeRF) until pruning has decided; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1 <= self.levels <= 32, "levels", "1 to 32")
        self.require(self.features in (1, 2, 4, 8), "features", "1, 2, 4 or 8")
        self.require(4 <= self.log2_table <= 24, "log2_table", "4 to 24")
        self.require(1 <= self.base <= 4096, "base", "1 to 4096")
        self.require(self.finest == 0 or self.base <= self.finest <= 1 << 19, "finest", "0, or at least base and at most 524288")
        self.require(8 <= self.hidden <= 256, "hidden", "8 to 256")
        self.require(self.saliency == 0 or 2 <= self.saliency <= 256, "saliency", "0, or 2 to 256")
        rows = sum(_rows(self, resolution) for resolution in self.resolutions)
        self.require(rows <= MAX_ROWS, "finest", f"a grid of at most {MAX_ROWS} rows (this one would have {rows}); lower finest or levels")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Cells along a side, per level (Instant-NGP, eq. 2 and 3; rounded up, as its code does)."""
        finest = self.finest or max(self.base, 173 if self.encoding == "dense" else 512)
        if self.levels == 1:
            return (finest,)
        growth = (finest / self.base) ** (1.0 / (self.levels - 1))
        return tuple(math.ceil(self.base * growth**level - 1e-6) for level in range(self.levels))


def _is_dense(options: HashGridOptions, resolution: int) -> bool:
    return options.encoding == "dense" or (resolution + 1) ** 3 <= 1 << options.log2_table


def _rows(options: HashGridOptions, resolution: int) -> int:
    if _is_dense(options, resolution):
        return -(-((resolution + 1) ** 3) // 8) * 8
    return 1 << options.log2_table


def grid_layout(options: HashGridOptions) -> GridLayout:
    """Rows and kind of each level: dense where (r + 1)^3 vertices fit (rounded up to a multiple of 8), else a full table."""
    offsets = [0]
    for resolution in options.resolutions:
        offsets.append(offsets[-1] + _rows(options, resolution))
    overflow = TILED if options.encoding == "tiled" else HASHED
    kinds = tuple(DENSE if _is_dense(options, resolution) else overflow for resolution in options.resolutions)
    return GridLayout(options.resolutions, tuple(offsets), kinds, options.features)


class GridEncoder(Encoder):
    """The table and the density network E -> hidden -> 16.

    With a saliency grid, its logits gate the features until a pruner decides (:meth:`decide`). From then on the layout says
    ``decided``, and the grid is a mask: a bit for every vertex.
    """

    saliency: nn.Parameter | None
    """Logits [S, S, S] of an undecided grid."""
    mask: Tensor | None
    """Open vertices [S, S, S] of a decided one, bool."""

    def __init__(self, options: HashGridOptions, layout: dict[str, Any] | None = None) -> None:
        super().__init__()
        decided = bool(layout)
        if decided and not (layout == {"decided": True} and options.saliency):
            raise ValueError("key 'layout' is not that of a hash grid: empty, or with a saliency grid, decided")
        self.grid = grid_layout(options)
        self.table = nn.Parameter(torch.empty(self.grid.offsets[-1], self.grid.features))
        self.head = density_head(self.grid.width, options.hidden)
        shape = (options.saliency,) * 3
        self.register_parameter("saliency", nn.Parameter(torch.empty(shape)) if options.saliency and not decided else None)
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool) if decided else None)

    def layout(self) -> dict[str, Any]:
        return {} if self.mask is None else {"decided": True}

    @torch.no_grad()
    def decide(self, mask: Tensor) -> None:
        """Keep of the saliency grid only which vertices are open, ``mask`` [S, S, S] bool.

        What the gate let through on the average is made part of the table, so that the features change least.
        """
        assert self.saliency is not None
        self.table.mul_(torch.sigmoid(self.saliency[mask]).mean())
        self.mask, self.saliency = mask.clone(), None

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_(self.table, 1e-4 if self.saliency is None else HOLLOW_START, generator)
        self.head.reset_parameters(generator)
        if self.saliency is not None:
            nn.init.constant_(self.saliency, SALIENCY_START)

    def forward(self, unit: Tensor) -> Tensor:
        features = kernels.ops(unit.device).grid_encode(unit, self.table, self.grid)
        if self.saliency is None:
            return self.head(features)
        saliency, live = saliency_at(unit, self.saliency)
        features = saliency[:, None] * features
        numbers = self.head(features)
        s = torch.where(live, numbers[:, 0] + zero_skip(features), torch.zeros_like(numbers[:, 0]))
        return torch.cat([s[:, None], numbers[:, 1:]], -1)

    def saliency_logits(self) -> Tensor | None:
        return self.saliency

    def saliency_mask(self) -> Tensor | None:
        return self.mask

    def lower(self) -> Branch:
        return GridEncoding(self.table, self.grid), self.head.tensors

    def packing(self, bits: NDArray[np.bool_]) -> dict[str, list[Part]]:
        cuts = {"table": grid_parts(self.grid, bits)}
        if self.saliency is not None:
            side = self.saliency.shape[0]
            live = reached(bits, *(side - 1,) * 3).any(-1).reshape(-1)
            cuts["saliency"] = [Part(0, side * side, side, side, live=live, fill=CLOSED, guard=CUT)]
        return cuts

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [
            {"name": "table", "params": [self.table], "lr": 1.0, "sparse": True},
            {"name": "density network", "params": list(self.head.parameters()), "lr": 1.0, "sparse": False},
        ]
        if self.saliency is not None:
            groups.append({"name": "saliency", "params": [self.saliency], "lr": SALIENCY_RATE, "sparse": False})
        return groups


class HashGridField(HandoverField):
    """Fast to train and to render; large (the table), and not editable by region."""

    family: ClassVar[str] = "hashgrid"
    options: HashGridOptions
    encoder: GridEncoder

    def __init__(self, options: HashGridOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, GridEncoder(options, layout), options.hidden)

    @property
    def numbers(self) -> int:
        mask = self.encoder.saliency_mask()
        return super().numbers + (0 if mask is None else mask.numel())

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        found = super().geometry(positions, times)
        kept = self._kept(positions)
        return found if kept is None else found._replace(gate=found.gate * kept)

    def density(self, positions: Tensor, times: Tensor | None = None) -> Tensor:
        found, kept = super().density(positions, times), self._kept(positions)
        return found if kept is None else found * kept

    def evaluate(self, positions: Tensor, directions: Tensor) -> Evaluation:
        found, kept = super().evaluate(positions, directions), self._kept(positions)
        return found if kept is None else found._replace(gate=found.gate * kept)

    def _kept(self, positions: Tensor) -> Tensor | None:
        """[N] 0 where a decided saliency grid has ruled space out, else 1; None without one.

        Decided is by cells of the occupancy grid, as for rays: they are not led into those cells, and the kernels know no mask.
        """
        mask = self.encoder.saliency_mask()
        if mask is None:
            return None
        cells = _open_cells.of((mask,), lambda: mask_of(mask, self.occupancy.resolution))
        return occupied(cells, self.space.to_unit(positions)).to(positions.dtype)
