"""Training a field on: to make up for pruning, or so that its numbers bear rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..representations.entropy import power_of_two
from ..representations.field import Field
from ..representations.packing import columns
from ..training.budget import Budget, RateSchedule
from ..training.evaluation import eval_settings
from ..training.recipes import recipe_for
from ..training.trainer import BatchSource, Callback, Pruner, StepStats, Trainer
from .hollow import OPEN, saliency_of
from .quantize import Plan, exponents

RATE = 0.03
"""Learning rate of a fine-tune, as a share of the family's own: where a whole run ends."""
DEAD_ZONE = 0.6
"""Numbers nearer to zero than this many steps round to it, about as rate-distortion optimisation does."""


class SettledTrainer(Trainer):
    """A trainer of a field whose shape is settled: one that was cut short is not refined or shrunk while it is packed."""

    def pass_milestones(self, progress: float) -> None:
        """None are."""


class RoundingTrainer(SettledTrainer):
    """A trainer whose every step sees the numbers rounded to their quantisation steps.

    Gradients at the rounded numbers move the full-precision ones (the straight-through estimator, Bengio et al. 2013).
    """

    steps: dict[str, Tensor]

    def round_to(self, plan: Plan, step: float) -> None:
        """Step sizes of the planned parameters at this step in colour; they stay fixed."""
        self.steps = {}
        for name, parameter in self.field.named_parameters():
            if name not in plan or not parameter.requires_grad:
                continue
            values = parameter.detach().cpu().numpy().reshape(-1, columns(parameter.shape))
            sizes = np.zeros_like(values)
            for entry in plan[name]:
                rows, part = entry.part.rows, slice(entry.part.begin, entry.part.end)
                powers = exponents(entry, step, float(np.abs(values[part][rows]).max(initial=0.0)))
                sizes[part][rows] = np.array([power_of_two(int(e)) for e in powers], np.float32)
            self.steps[name] = torch.from_numpy(sizes).view(parameter.shape).to(parameter.device)

    def step(self) -> StepStats:
        parameters = dict(self.field.named_parameters())
        full, rounded = {}, {}
        with torch.no_grad():
            for name, sizes in self.steps.items():
                full[name] = parameters[name].clone()
                rounded[name] = rounding(full[name], sizes)
                parameters[name].copy_(rounded[name])
        stats = super().step()
        with torch.no_grad():
            for name, value in full.items():
                parameters[name].sub_(rounded[name]).add_(value)
        return stats


def rounding(values: Tensor, sizes: Tensor) -> Tensor:
    """``values`` at the nearest multiples of their step sizes, or 0 in the dead zone; those of step 0 stay."""
    scaled = values / sizes.clamp_min(1e-30)
    found = torch.where(scaled.abs() < DEAD_ZONE, torch.zeros_like(scaled), scaled.round()) * sizes
    return torch.where(sizes > 0.0, found, values)


def finetune(
    field: Field,
    batches: BatchSource,
    budget: Budget,
    *,
    rate: float = RATE,
    rounded: tuple[Plan, float] | None = None,
    pruner: Pruner | None = None,
    seed: int = 0,
    on_step: Callback | None = None,
) -> None:
    """Train ``field`` on batches (of photographs, or of a teacher), in place. Its occupancy can only lose cells.

    Args:
        rate: relative to the family's own base rate.
        rounded: plan and step in colour that every training step rounds the numbers to.
    """
    recipe = recipe_for(field.family)
    recipe = replace(recipe, rate=recipe.rate * rate, schedule=RateSchedule(decay_from=0.3, final=0.1))
    if rounded is not None:  # a field that is done gains nothing from batches as small, and as noisy, as a run starts with
        recipe = replace(recipe, samples=recipe.samples_at(1.0), growth=1.0)
    field.occupancy.restrict(field.occupancy.bits)
    kind = SettledTrainer if rounded is None else RoundingTrainer

    def behind(count: int, generator: torch.Generator) -> Tensor:
        if field.background is not None:
            return torch.sigmoid(field.background)
        return torch.rand(count, 3, generator=generator).to(field.device)

    trainer = kind(field, batches, recipe, budget, eval_settings(field), behind, seed, pruner)
    if isinstance(trainer, RoundingTrainer):
        assert rounded is not None
        trainer.round_to(*rounded)
    trainer.run([] if on_step is None else [on_step])


def hollowed(field: Field, side: int) -> Field:
    """A copy of a hash grid with a saliency grid that is open almost everywhere.

    Raises:
        UserError: it is no hash grid.
    """
    from ..errors import UserError
    from ..representations.hashgrid import HashGridField

    if not isinstance(field, HashGridField):
        raise UserError(f"only hash grids have a saliency grid to prune; this field is of family {field.family}")
    if field.options.saliency:
        side = field.options.saliency
    made = HashGridField(replace(field.options, saliency=side), field.space).to(field.device)
    state = field.state_dict()
    if field.background is not None:
        made.add_background()
    mask = state.pop("encoder.mask", None)  # one that was pruned before: what is shut stays so
    fresh = torch.full((side,) * 3, OPEN) if mask is None else saliency_of(field)
    state.setdefault("encoder.saliency", fresh)
    made.load_state_dict(state)
    made.metadata = {**field.metadata}
    return made
