"""Small, fast settings of each family, and known gaps. A new family adds one line here; without it, its defaults are tested."""

from __future__ import annotations

from typing import Any

import torch

from fieldmorph.representations.field import Field
from fieldmorph.representations.mixed import MixedField
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

SMALL: dict[str, dict[str, Any]] = {
    "hashgrid": {"levels": 4, "features": 2, "log2_table": 10, "base": 4, "finest": 64, "hidden": 16, "occupancy": 16},
    "vm": {"start": 12, "final": 20, "density_rank": 4, "color_rank": 6, "hidden": 16, "occupancy": 16},
    "cp": {"start": 12, "final": 20, "density_rank": 8, "color_rank": 12, "hidden": 16, "occupancy": 16},
    "voxels": {"start": 12, "final": 20, "degree": 2, "occupancy": 16},
    "mlp": {"octaves": 5, "layers": 4, "width": 32, "hidden": 16, "occupancy": 16},
    "hybrid": {
        "levels": 3,
        "features": 2,
        "log2_table": 9,
        "base": 4,
        "finest": 32,
        "start": 8,
        "final": 14,
        "hidden": 16,
        "occupancy": 16,
    },
    "mixed": {
        "frames": 5,
        "start": 12,
        "final": 20,
        "density_rank": 4,
        "color_rank": 6,
        "hidden": 24,
        "color_hidden": 16,
        "occupancy": 16,
    },
}

VARIANTS: dict[str, dict[str, Any]] = {
    "hashgrid-dense": {**SMALL["hashgrid"], "encoding": "dense", "finest": 24},
    "hashgrid-hollow": {**SMALL["hashgrid"], "saliency": 9},
    "hashgrid-tiled": {**SMALL["hashgrid"], "encoding": "tiled"},
    "hashgrid-single": {**SMALL["hashgrid"], "encoding": "dense", "levels": 1, "finest": 16},
    "voxels-degree4": {**SMALL["voxels"], "degree": 4},
    "hybrid-three": {**SMALL["hybrid"], "branches": ("cp", "hashgrid", "vm")},
}
"""Further settings that run through the whole suite: "family-name" -> options."""

BOX = Space((-1.0, -1.2, -0.8), (1.0, 1.0, 1.1))

EXPECTED_FAILURES: dict[str, dict[str, str]] = {}
"""family -> {check: reason}: known gaps, reported as xfail."""


def small(name: str, space: Space = BOX, seed: int = 0) -> Field:
    """A fresh small field of the family (or variant) ``name``."""
    family = name.partition("-")[0]
    return build(family, VARIANTS.get(name, SMALL.get(family, {})), space, seed)


def lively(name: str, space: Space = BOX, seed: int = 0) -> Field:
    """A small field whose parameters are far from their (nearly constant) initial values."""
    field = small(name, space, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in field.parameters():
            spread = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.where(parameter.abs() < 1e-3, spread, parameter * (1.0 + 0.3 * spread)))
        if isinstance(field, MixedField):  # both branches speak
            field.split.copy_(torch.rand(field.split.shape, generator=generator) < 0.5)
    return field


def points(count: int, space: Space = BOX, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Positions spread over the middle of the space."""
    unit = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.9 + 0.05
    return space.from_unit(unit).to(dtype)


def directions(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Unit vectors, uniform over the sphere."""
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=-1).to(dtype)


def number(value: torch.Tensor | float | None) -> float:
    """A scalar tensor's value, without its history."""
    assert value is not None
    return float(value.detach() if isinstance(value, torch.Tensor) else value)
