"""A field with edits: the same interface, so that whatever takes a field shows, scores and converts the edited scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..kernels.lowered import Layer, LayeredEncoding, Lowered
from ..kernels.reference import truncated_exp
from ..kernels.reference_layers import Source, affine, layered, log_of, occupied
from .edits import Edit
from .field import Field, Geometry
from .layers import scene_layers
from .space import Space

_CHUNK = 1 << 18


class EditedField(Field):
    """A frozen view of ``base`` (and of fields inserted into it) through a list of edits; the base stays as it was.

    It carries its own space, occupancy and metadata (lengths there are normalised by the space, which may have grown).
    To train on, bake it into voxels or distil it into another family.
    """

    has_handover = False

    def __init__(self, base: Field, edits: Sequence[Edit], inserted: Sequence[Field] = ()) -> None:
        """Raises:
        UserError: a dynamic or already edited field among them, or edits that do not fit the fields.
        """
        for field in (base, *inserted):
            if isinstance(field, EditedField):
                raise UserError("a field that is inserted must not have edits of its own; bake it first: fieldmorph edit FIELD --bake")
            if field.dynamic:
                raise UserError(f"a {field.family} field changes with time and cannot be edited; freeze it at one time first")
        spaces = [field.space for field in (base, *inserted)]
        layers, space = scene_layers(edits, spaces)
        super().__init__(base.options, space, base.occupancy.resolution)
        self.base = base
        self.inserted = nn.ModuleList(inserted)
        self.edits = tuple(edits)
        self.layers = layers
        self.requires_grad_(False)
        self.background = base.background
        self.metadata = _metadata(base, space)
        self.occupancy.to(base.device)
        _occupy(self)

    @property
    def family(self) -> str:  # type: ignore[override]
        return self.base.family

    @property
    def sources(self) -> list[Field]:
        """The base, then the inserted fields."""
        return [self.base, *(field for field in self.inserted if isinstance(field, Field))]

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        """Block 1; the features are the positions themselves, from which :meth:`color` asks the layers."""
        density, _ = layered(self.layers, [_source(field) for field in self.sources], positions, None)
        return Geometry(*log_of(density), positions)

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        return layered(self.layers, [_source(field) for field in self.sources], features, directions)[1]

    def layout(self) -> dict[str, Any]:
        return self.base.layout()

    def parameter_groups(self) -> list[dict[str, Any]]:
        raise UserError("an edited field is not trained; bake it into voxels or distil it into another family first")

    def lower(self) -> Lowered | None:
        sources = []
        for field in self.sources:
            lowered = field.lower()
            if lowered is None:
                return None
            sources.append((lowered, field.occupancy.bits))
        return Lowered(self.space.lower, self.space.upper, self.space.unbounded, LayeredEncoding(tuple(sources), self.layers), (), ())


def with_edits(field: Field, edits: Sequence[Edit], inserted: Sequence[Field] = ()) -> Field:
    """``field`` seen through other edits than it has (none: the field itself); inserted fields are counted anew."""
    base = field.base if isinstance(field, EditedField) else field
    return EditedField(base, edits, inserted) if edits else base


def _source(field: Field) -> Source:
    """A field where its occupancy lets the renderer look."""

    def answer(positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        seen = occupied(field.occupancy.bits, field.space.to_unit(positions)).to(positions.dtype)
        geometry = field.geometry(positions)
        density = seen * geometry.gate * truncated_exp(geometry.log_density)
        return density, None if directions is None else field.color(geometry.features, directions)

    return answer


def _metadata(base: Field, space: Space) -> dict[str, Any]:
    """The base's facts in the lengths of a space that may be larger: near distance, samples along the diagonal."""
    facts = dict(base.metadata)
    if space != base.space:
        facts["near"] = float(facts.get("near", 0.0)) * space.scale / base.space.scale
        longer = math.dist(space.lower, space.upper) / math.dist(base.space.lower, base.space.upper)
        facts["steps"] = min(1 << 20, math.ceil(int(facts.get("steps", 1024)) * longer))
    return facts


@torch.no_grad()
def _occupy(field: EditedField) -> None:
    """Occupied is every cell that an occupied cell of a source, put where a layer puts it, may touch."""
    occupancy, space = field.occupancy, field.space
    n, device = occupancy.resolution, occupancy.bits.device
    found = torch.zeros(n**3, dtype=torch.bool, device=device)
    for layer in field.layers:
        source = field.sources[layer.source]
        same = source.space == space and source.occupancy.resolution == n and layer.matrix == IDENTITY
        reach = 0 if same else _reach(source, space, layer, n)
        bits = dilated(source.occupancy.bits, reach)
        for cells in torch.split(torch.arange(n**3, device=device), _CHUNK):
            unit = (torch.stack([cells // (n * n), cells // n % n, cells % n], -1) + 0.5) / n
            positions = space.from_unit(unit)
            there = source.space.to_unit(affine(layer.matrix, positions))
            near = (there - 0.5).abs().amax(-1) <= 0.5 + reach / min(bits.shape)
            keep = near & occupied(bits, there.clamp(0.0, 1.0))
            radius = _cell_radius(space, unit, n)
            for region, inside in layer.conditions:
                keep &= _may_be(region, inside, positions, radius)
            found[cells] |= keep
    occupancy.bits.copy_(found.view_as(occupancy.bits))
    occupancy.density.copy_(occupancy.bits.float())


IDENTITY = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _cell_radius(space: Space, unit: Tensor, n: int) -> Tensor:
    """World distance [N] from a cell's centre to its farthest corner; far cells of an unbounded space are larger."""
    size = torch.tensor(space.size, device=unit.device).norm() / n * 0.5
    if not space.unbounded:
        return size.expand(unit.shape[0])
    # The contraction's inverse stretches lengths by at most 1 / (2 - r)^2 at contracted norm r, twice the box's side as a whole.
    reach = ((4.0 * unit - 2.0).abs().amax(-1) + 2.0 / n).clamp(1.0, 2.0 - 1e-3)
    return 2.0 * size / (2.0 - reach).square()


def _may_be(region: Any, inside: bool, positions: Tensor, radius: Tensor) -> Tensor:
    """Whether some point of the ball around each position is inside (or outside) the region, bool [N]; errs on the side of yes."""
    local = affine(region.matrix, positions)
    stretch = torch.tensor(region.matrix, device=positions.device).view(3, 4)[:, :3].norm()  # Frobenius: an upper bound
    length = local.norm(dim=-1) if region.shape else local.abs().amax(-1)
    margin = stretch * radius
    return length <= 1.0 + margin if inside else length >= 1.0 - margin


def _reach(source: Field, space: Space, layer: Layer, n: int) -> int:
    """How many of the source's cells, from the one its centre falls into, a cell of the scene may touch (in the middle of its space)."""
    length = abs(float(torch.tensor(layer.matrix).view(3, 4)[:, :3].det())) ** (1.0 / 3.0)
    radius = 0.5 * math.hypot(*space.size) / n * length * (2.0 if space.unbounded else 1.0)
    cell = min(side / source.occupancy.resolution for side in source.space.size) * (2.0 if source.space.unbounded else 1.0)
    return math.ceil(radius / cell) + int(source.space.unbounded)


def dilated(bits: Tensor, reach: int) -> Tensor:
    """Every cell [X, Y, Z] with a set one at most ``reach`` cells away in the maximum norm."""
    wide = bits[None, None].float()
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * reach + 1, reach
        if reach:
            wide = F.max_pool3d(wide, kernel, stride=1, padding=padding)
    return wide[0, 0] > 0
