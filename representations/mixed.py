"""MixVoxels (Wang et al. 2023): still voxels of one kind, moving ones of another, and a query that answers for all times at once.

Both branches are TensoRF's planes and lines.  ``split`` says which cells move (see :mod:`.variation`): there the dynamic
branch speaks, elsewhere the static one.  Where the paper asks ray by ray, with thresholds along the ray, a cell here is of one
kind for every ray, so that the field is a function of position and time like any other.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .. import kernels
from ..errors import UserError
from ..kernels.lowered import Layer, LayeredEncoding, Lowered
from ..kernels.reference import inside_unit, mlp, truncated_exp
from ..kernels.reference_layers import occupied
from .field import Field, Geometry
from .heads import APPEARANCE, DIRECTION, BiasFreeMLP, color_head
from .milestones import increasing_shares
from .options import FieldOptions
from .space import Space
from .tensorf import VMEncoder, VMField, VMOptions

IDENTITY = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STILL_ALPHA = 1e-3
"""Empty-space rule: a static branch below this alpha over a :data:`STEP` says that nothing is there ..."""
STEADY_RANGE = 0.1
"""... and a moving cell whose alpha then varies less than this over all times is a floater (MixVoxels' two thresholds)."""
STEP = 2.0 * 3.0**0.5 / 256.0
"""Normalised length that the rule's alphas are over: a 256th of the diagonal of a box of side 2."""
PRIOR_EVERY = 4
"""Steps between two looks at the priors."""
_CHUNK = 1 << 15

PartName = Literal["all", "static", "dynamic", "background"]
"""What is seen: everything; the cells that stand still; those that move; the static branch in all of space (the temporal mean)."""


@dataclass(frozen=True)
class MixedOptions(FieldOptions):
    """A static and a dynamic branch of planes and lines over one grid."""

    frames: int = 60
    """Times that are told apart; training sets it to the clip's number of frames."""
    start: int = 64
    """Resolution at the start: the grids have about start^3 voxels, shared out along the axes by the box's shape."""
    final: int = 200
    """Resolution after the last mark, likewise."""
    marks: tuple[float, ...] = (0.2, 0.3, 0.4)
    """Shares of the training at which both branches and the variation field are refined (MixVoxels: steps 1500 to 3250 of 5000)."""
    density_rank: int = 8
    """Products per mode for density, of each branch."""
    color_rank: int = 16
    """Products per mode for colour, of each branch."""
    hidden: int = 128
    """Width of the time query's layers (MixVoxels: 512)."""
    color_hidden: int = 64
    """Width of the static branch's colour network."""
    shift: float = -8.0
    """Raw log density of an untrained field: nearly nothing, for fog along rays without end is slow to clear."""
    l1: float = 4e-5
    """Weight of the mean absolute density factor of the static branch."""
    tv_density: float | None = 0.0
    """Weight of the total variation of density factors, three times that in the dynamic branch; MixVoxels has some, see the vm family."""
    tv_color: float | None = 0.0
    """The same for colour factors."""
    everything: bool = False
    """Treat all of space as moving: what the split is compared with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(2 <= self.frames <= 4096, "frames", "2 to 4096")
        self.require(increasing_shares(self.marks), "marks", "increasing shares between 0 and 1")
        self.require(8 <= self.hidden <= 1024, "hidden", "8 to 1024")
        self.factors()

    def factors(self, tv: float = 1.0) -> VMOptions:
        """Options of a branch; both keep the box, for one split serves them."""
        return VMOptions(
            start=self.start,
            final=self.final,
            marks=self.marks,
            shrink=False,
            shift=self.shift,
            l1_first=self.l1 if tv == 1.0 else 0.0,
            l1=self.l1 if tv == 1.0 else 0.0,
            tv_density=(self.tv_density or 0.0) * tv,
            tv_color=(self.tv_color or 0.0) * tv,
            density_rank=self.density_rank,
            color_rank=self.color_rank,
            hidden=self.color_hidden,
        )


class TimeQuery(BiasFreeMLP):
    """ReLU layers, then the inner product with one latent row per output and time (MixVoxels, section 3.2).

    The last weight is [outputs * T, hidden], output-major: all times of one output are neighbours.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, frames: int) -> None:
        super().__init__((inputs, hidden, hidden, outputs * frames))
        self.outputs, self.frames = outputs, frames

    def latents(self, times: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """Latent rows [outputs * F, hidden] of ``times`` in [0, 1] (between frames: of both, in proportion), of ``frames``, or of all."""
        table = self.tensors[-1]
        if times is None and frames is None:
            return table
        rows = table.view(self.outputs, self.frames, -1)
        if frames is not None:
            return rows.index_select(1, frames).reshape(-1, rows.shape[-1])
        assert times is not None
        place = times.to(rows.dtype).clamp(0.0, 1.0) * (self.frames - 1)
        low = place.floor().long().clamp(max=self.frames - 2)
        share = (place - low)[:, None]
        found = rows.index_select(1, low) * (1.0 - share) + rows.index_select(1, low + 1) * share
        return found.reshape(-1, rows.shape[-1])

    def head(self, latents: Tensor) -> tuple[Tensor, ...]:
        return (*self.tensors[:-1], latents)


class StaticBranch(nn.Module):
    """The light branch: planes and lines, a small colour network."""

    def __init__(self, options: MixedOptions, space: Space, layout: dict[str, Any] | None) -> None:
        super().__init__()
        self.encoder = VMEncoder(options.factors(), space, layout)
        self.color_head = color_head(options.color_hidden)


class DynamicBranch(nn.Module):
    """The branch that moves: planes and lines, a time query for density and one for colour."""

    def __init__(self, options: MixedOptions, space: Space, layout: dict[str, Any] | None) -> None:
        super().__init__()
        self.encoder = VMEncoder(options.factors(3.0), space, layout)
        self.density = TimeQuery(3 * options.density_rank, options.hidden, 1, options.frames)
        self.color = TimeQuery(DIRECTION + APPEARANCE, options.hidden, 3, options.frames)

    def log_density(self, unit: Tensor, latents: Tensor) -> Tensor:
        """Raw log density [N, F] for latents [F, hidden]."""
        return mlp(self.encoder.density_products(unit), self.density.head(latents)) + self.encoder.shift

    def logits(self, features: Tensor, directions: Tensor, latents: Tensor) -> Tensor:
        """Colours before the sigmoid [N, 3, F] for latents [3 F, hidden]."""
        basis = kernels.ops(features.device).spherical_harmonics(directions, 4).to(features.dtype)
        return mlp(torch.cat([basis, features], -1), self.color.head(latents)).view(features.shape[0], 3, latents.shape[0] // 3)


class MixedField(Field):
    """Two branches and the cells that each speaks for. Without times it answers as of time 0."""

    family: ClassVar[str] = "mixed"
    has_handover: ClassVar[bool] = False
    dynamic: ClassVar[bool] = True
    options: MixedOptions
    split: Tensor
    """[R, R, R] bool over unit coordinates, R the occupancy's: which cells move. At first all do."""

    def __init__(self, options: MixedOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, options.occupancy)
        if layout is not None and not (set(layout) == {"static", "dynamic"} and all(isinstance(part, dict) for part in layout.values())):
            raise ValueError("key 'layout' is not one table per branch")
        still, moving = (None, None) if layout is None else (layout["static"], layout["dynamic"])
        self.static = StaticBranch(options, space, still)
        self.moving = DynamicBranch(options, space, moving)
        self.register_buffer("split", torch.ones(self.occupancy.bits.shape, dtype=torch.bool))

    @property
    def frames(self) -> int:
        return self.options.frames

    def reset_parameters(self, generator: torch.Generator) -> None:
        self.static.encoder.reset_parameters(generator)
        self.static.color_head.reset_parameters(generator)
        self.moving.encoder.reset_parameters(generator)
        self.moving.density.reset_parameters(generator)
        self.moving.color.reset_parameters(generator)
        self.split.fill_(True)

    def layout(self) -> dict[str, Any]:
        return {"static": self.static.encoder.layout(), "dynamic": self.moving.encoder.layout()}

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        """Block 1; features [N, 16] are 15 appearance numbers, and 1 where the position moves."""
        return self.part_geometry(positions, times, "all")

    def part_geometry(self, positions: Tensor, times: Tensor | None, part: PartName) -> Geometry:
        """:meth:`geometry` of one part of the scene."""
        unit = self.space.to_unit(positions)
        gate, moves = inside_unit(unit), self.moves(unit, part)
        if part in ("static", "dynamic"):
            gate = gate & (moves == (part == "dynamic"))
        when = unit.new_zeros(1) if times is None else times
        still, moving = (~moves).nonzero()[:, 0], moves.nonzero()[:, 0]
        numbers = self.static.encoder(unit.index_select(0, still))
        there = unit.index_select(0, moving)
        s = self.moving.log_density(there, self.moving.density.latents(when))
        log_density = unit.new_zeros(unit.shape[0], s.shape[1])
        log_density = log_density.index_copy(0, still, numbers[:, :1].expand(-1, s.shape[1])).index_copy(0, moving, s)
        features = unit.new_zeros(unit.shape[0], APPEARANCE)
        features = features.index_copy(0, still, numbers[:, 1:]).index_copy(0, moving, self.moving.encoder.appearance(there))
        features = torch.cat([features, moves[:, None].to(features.dtype)], -1)
        return Geometry(log_density[:, 0] if times is None else log_density, gate.to(unit.dtype), features)

    def moves(self, unit: Tensor, part: PartName = "all") -> Tensor:
        """Where the dynamic branch speaks, bool [N]."""
        if part == "background":
            return torch.zeros(unit.shape[0], dtype=torch.bool, device=unit.device)
        return occupied(self.split, unit)

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        moves = features[:, APPEARANCE] > 0.5
        when = features.new_zeros(1) if times is None else times
        still, moving = (~moves).nonzero()[:, 0], moves.nonzero()[:, 0]
        seen = features[:, :APPEARANCE]
        basis = kernels.ops(features.device).spherical_harmonics(directions.index_select(0, still), 4).to(features.dtype)
        rgb = torch.sigmoid(self.static.color_head(torch.cat([basis, seen.index_select(0, still)], -1)))
        latents = self.moving.color.latents(when)
        logits = self.moving.logits(seen.index_select(0, moving), directions.index_select(0, moving), latents)
        out = features.new_zeros(features.shape[0], len(when), 3)
        out = out.index_copy(0, still, rgb[:, None].expand(-1, len(when), -1))
        out = out.index_copy(0, moving, torch.sigmoid(logits).transpose(1, 2))
        return out[:, 0] if times is None else out

    @torch.no_grad()
    def peak_density(self, positions: Tensor, settled: bool = False) -> Tensor:
        """The greatest density over all times [N], for an occupancy that serves every time.

        Not ``settled``: the static branch counts in moving cells, too, where it is trained on the temporal mean. Settled: it does not,
        and the empty-space rule holds: where the static branch says that nothing is and the dynamic one hardly varies, nothing is.
        """
        unit = self.space.to_unit(positions)
        gate = inside_unit(unit).to(unit.dtype)
        peak = kernels.ops(unit.device).evaluate_density(self.lower_static(), positions)
        latents = self.moving.density.latents()
        for part in torch.split(self.moves(unit).nonzero()[:, 0], _CHUNK):
            s = self.moving.log_density(unit.index_select(0, part), latents)
            high, low = truncated_exp(s.amax(-1)), truncated_exp(s.amin(-1))
            here = peak.index_select(0, part)
            if settled:
                steady = torch.exp(-low * STEP) - torch.exp(-high * STEP) < STEADY_RANGE
                found = torch.where(steady & (here * STEP < STILL_ALPHA), torch.zeros_like(high), high)
            else:
                found = torch.maximum(high, here)
            peak[part] = gate.index_select(0, part) * found
        return peak

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = []
        for name, encoder in (("static", self.static.encoder), ("dynamic", self.moving.encoder)):
            groups += [{**group, "name": f"{name} {group['name']}"} for group in encoder.parameter_groups()]
        heads = {"static colour": self.static.color_head, "density query": self.moving.density, "colour query": self.moving.color}
        groups += [{"name": name, "params": list(head.parameters()), "lr": 0.05, "sparse": False} for name, head in heads.items()]
        return [*groups, *self.background_group()]

    def regularization(self, step: int) -> Tensor | None:
        """The branches' priors, at every few steps with as many times the weight: they look at every number there is."""
        if step % PRIOR_EVERY != PRIOR_EVERY - 1:
            return None
        terms = [self.static.encoder.regularization(step), self.moving.encoder.regularization(step)]
        found = [term for term in terms if term is not None]
        return PRIOR_EVERY * torch.stack(found).sum() if found else None

    def milestone(self, progress: float) -> bool:
        changed = [branch.encoder.milestone(self, progress) for branch in (self.static, self.moving)]
        return any(changed)

    @torch.no_grad()
    def warm_start(self, still: Field) -> None:
        """Let the static branch start from a vm field of the same space, read at this field's own vertices.

        Raises:
            UserError: another family or space, or other ranks or widths.
        """
        if not isinstance(still, VMField):
            raise UserError(f"a mixed field can start from a vm field, not from a {still.family} one; distil it into vm first")
        mine, theirs = self.static, copy.deepcopy(still)
        if theirs.space != self.space:
            raise UserError("the field to start from describes another region of space; train it on the same clip, with --field vm")
        assert isinstance(theirs.encoder, VMEncoder)
        theirs.encoder.resample(self.space, self.space, mine.encoder.grid)
        for taken, given in ((mine.encoder, theirs.encoder), (mine.color_head, theirs.color_head)):
            own = dict(taken.named_parameters())
            for name, parameter in given.named_parameters():
                if own[name].shape != parameter.shape:
                    o = self.options
                    names = f"density_rank={o.density_rank}, color_rank={o.color_rank}, hidden={o.color_hidden}"
                    raise UserError(f"the field to start from has other ranks or widths; it needs {names}")
                own[name].copy_(parameter)
        mine.encoder.shift = theirs.encoder.shift

    def at(self, time: float) -> MixedMoment:
        return MixedMoment(self, time)

    def part(self, name: PartName) -> MixedPart:
        """One part of the scene, itself a field that moves: ``part(name).at(t)``."""
        return MixedPart(self, name)

    def lower_static(self) -> Lowered:
        encoding, _ = self.static.encoder.lower()
        return Lowered(self.space.lower, self.space.upper, self.space.unbounded, encoding, (), self.static.color_head.tensors)

    def lower_moving(self, time: float) -> Lowered:
        encoding, _ = self.moving.encoder.lower()
        when = torch.tensor([time], device=self.device)
        density, color = self.moving.density, self.moving.color
        heads = density.head(density.latents(when)), color.head(color.latents(when))
        return Lowered(self.space.lower, self.space.upper, self.space.unbounded, encoding, *heads)


class MixedMoment(Field):
    """A mixed field at one time in [0, 1], or one part of it: a frozen view that the fused kernels render like any field."""

    has_handover: ClassVar[bool] = False

    def __init__(self, source: MixedField, time: float, part: PartName = "all") -> None:
        """Raises:
        ValueError: a time outside [0, 1].
        """
        if not 0.0 <= time <= 1.0:
            raise ValueError(f"a time must lie in [0, 1], got {time}")
        super().__init__(source.options, source.space, 1)
        self.source, self.time, self.shown = source, time, part
        self.occupancy, self.background, self.metadata = source.occupancy, source.background, source.metadata

    @property
    def family(self) -> str:  # type: ignore[override]
        return self.source.family

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        when = torch.tensor([self.time], dtype=positions.dtype, device=positions.device)
        found = self.source.part_geometry(positions, when, self.shown)
        return Geometry(found.log_density[:, 0], found.gate, found.features)

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        when = torch.tensor([self.time], dtype=features.dtype, device=features.device)
        return self.source.color(features, directions, when)[:, 0]

    def layout(self) -> dict[str, Any]:
        raise UserError("one moment of a moving field has no file of its own; distil it into a family that stands still, or bake it")

    def parameter_groups(self) -> list[dict[str, Any]]:
        raise UserError("one moment of a moving field is not trained; distil it into a family that stands still first")

    def lower(self) -> Lowered:
        source = self.source
        if self.shown == "background":
            return source.lower_static()
        live, split = source.occupancy.bits, source.split
        parts: list[tuple[Lowered, Tensor]] = []
        if self.shown != "dynamic":
            parts.append((source.lower_static(), live & ~split))
        if self.shown != "static":
            parts.append((source.lower_moving(self.time), live & split))
        layers = tuple(Layer(k, IDENTITY, 1.0) for k in range(len(parts)))
        space = source.space
        return Lowered(space.lower, space.upper, space.unbounded, LayeredEncoding(tuple(parts), layers), (), ())


class MixedPart(Field):
    """A part of a mixed field at all times; :meth:`at` gives its moments."""

    has_handover: ClassVar[bool] = False
    dynamic: ClassVar[bool] = True

    def __init__(self, source: MixedField, part: PartName) -> None:
        super().__init__(source.options, source.space, 1)
        self.source, self.shown = source, part
        self.occupancy, self.background, self.metadata = source.occupancy, source.background, source.metadata

    @property
    def family(self) -> str:  # type: ignore[override]
        return self.source.family

    @property
    def frames(self) -> int:
        return self.source.frames

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        return self.source.part_geometry(positions, times, self.shown)

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        return self.source.color(features, directions, times)

    def at(self, time: float) -> MixedMoment:
        return MixedMoment(self.source, time, self.shown)
