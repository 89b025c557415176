"""Per-family training settings that need no tuning; where each comes from is said beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .budget import RateSchedule


@dataclass(frozen=True)
class Recipe:
    """How to train one family."""

    rate: float
    """Base learning rate that the groups' relative rates multiply."""
    samples: int
    """Live field evaluations per step that the ray batch adapts to, at the start."""
    schedule: RateSchedule
    steps_per_diagonal: int = 256
    """March resolution while training."""
    termination: float = 1e-3
    """Samples behind this transmittance get no gradient (kernels.md: 70 % of the backward work on lego)."""
    max_rays: int = 1 << 16
    growth: float = 1.0
    """How many times as many samples a step at the end of the budget has: small batches learn fast, large ones end with less noise."""

    opening: float = 0.0
    """Share of the training that unbounded space begins with: see :mod:`.opening`."""

    def samples_at(self, progress: float) -> int:
        """The goal of a step at a share of the budget."""
        return round(self.samples * self.growth**progress)

    def with_overrides(self, rate: float | None, samples: int | None) -> Recipe:
        return replace(self, rate=self.rate if rate is None else rate, samples=self.samples if samples is None else samples)


# Steps and finest level go together, and what growing batches bring: docs/training.md.
_GRID = Recipe(rate=2e-2, samples=16_384, schedule=RateSchedule(warmup=0, decay_from=0.3, final=0.03), steps_per_diagonal=384, growth=8.0)

RECIPES: dict[str, Recipe] = {
    "hashgrid": _GRID,
    "hybrid": _GRID,
    "vm": Recipe(rate=4e-2, samples=16_384, schedule=RateSchedule(warmup=0, decay_from=0.2, final=0.05)),
    "cp": Recipe(rate=4e-2, samples=16_384, schedule=RateSchedule(warmup=0, decay_from=0.2, final=0.05)),
    "voxels": Recipe(rate=0.4, samples=32_768, schedule=RateSchedule(warmup=0, decay_from=0.2, final=0.05)),
    "mixed": Recipe(
        rate=4e-2, samples=16_384, schedule=RateSchedule(warmup=0, decay_from=0.4, final=0.05), steps_per_diagonal=96, opening=0.15
    ),
    "mlp": Recipe(rate=1e-3, samples=8_192, schedule=RateSchedule(warmup=100, decay_from=0.2, final=0.03)),
}


def recipe_for(family: str) -> Recipe:
    """The family's recipe; an unknown (new) family trains with the hash grid's."""
    return RECIPES.get(family, RECIPES["hashgrid"])
