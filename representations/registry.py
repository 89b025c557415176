"""Names of the families: what `--field NAME` can be.  A new family is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..errors import UserError
from .field import Field
from .hashgrid import HashGridField, HashGridOptions
from .hybrid import HybridField, HybridOptions
from .mixed import MixedField, MixedOptions
from .mlp import MLPField, MLPOptions
from .options import FieldOptions, options_from
from .space import Space
from .tensorf import CPField, CPOptions, VMField, VMOptions
from .voxels import VoxelField, VoxelOptions


class Family(NamedTuple):
    """One kind of representation."""

    name: str
    options: type[FieldOptions]
    field: type[Any]
    """Called as ``field(options, space, layout=None)``; parameters are not initialised yet."""
    summary: str


_FAMILIES = (
    Family("hashgrid", HashGridOptions, HashGridField, "multi-resolution hash grid (Instant-NGP): fast to train, medium size"),
    Family("vm", VMOptions, VMField, "planes times lines (TensoRF VM): smooth, compact, editable"),
    Family("cp", CPOptions, CPField, "products of lines (TensoRF CP): the smallest grid"),
    Family("voxels", VoxelOptions, VoxelField, "voxels with spherical harmonics (Plenoxels): no network, the fastest to render, large"),
    Family("mlp", MLPOptions, MLPField, "one large network (NeRF, cut as in PVD): small, slow"),
    Family("hybrid", HybridOptions, HybridField, "sums of the above (hash grid and planes): detail and smoothness"),
    Family("mixed", MixedOptions, MixedField, "moving scenes (MixVoxels): still voxels and moving ones, all times at once"),
)


def families() -> dict[str, Family]:
    """All families by name, in the order they should be listed."""
    return {family.name: family for family in _FAMILIES}


def still_families() -> dict[str, Family]:
    """Those that describe scenes that stand still."""
    return {name: family for name, family in families().items() if not family.field.dynamic}


def get_family(name: str) -> Family:
    """Raises:
    UserError: no such family; the sentence lists those there are.
    """
    found = families().get(name)
    if found is None:
        raise UserError(f"there is no field family {name!r}; choose one of {', '.join(families())}")
    return found


def build(name: str, options: FieldOptions | Mapping[str, Any] | None, space: Space, seed: int = 0) -> Field:
    """A freshly initialised field; the same seed gives the same parameters on every machine.

    Args:
        options: the family's options, or a mapping of those that differ from their defaults (values may be text).

    Raises:
        UserError: unknown family or option, or a value that is not allowed.
    """
    family = get_family(name)
    if not isinstance(options, FieldOptions):
        options = options_from(family.options, options or {})
    elif type(options) is not family.options:
        raise TypeError(f"{name} takes {family.options.__name__}, got {type(options).__name__}")
    field: Field = family.field(options, space)
    field.reset_parameters(torch.Generator().manual_seed(seed))
    return field
