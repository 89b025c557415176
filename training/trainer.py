"""The one optimisation loop, for every family and every source of batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import kernels
from ..errors import UserError
from ..render.renderer import render_rays
from ..render.types import Rays, RenderSettings
from ..representations.field import Field
from ..representations.occupancy import INTERVAL
from .batches import Batch
from .budget import Budget
from .graphs import GraphedSteps
from .opening import approach, keep_middle
from .optimizer import FieldAdam
from .recipes import Recipe

FIRST_RAYS = 1024


class BatchSource(Protocol):
    """Photographs, or a teacher field."""

    def next(self, rays: int, generator: torch.Generator) -> Batch: ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep of it."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class StepStats:
    step: int
    progress: float
    loss: float
    mse: float
    """Mean squared colour error of the batch, before regularisation."""
    rays: int
    samples: int
    """Field evaluations spent."""
    rate: float
    stage: str = ""
    """What the run is at, where it goes through stages."""
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The loss term by term, where there are several."""


@dataclass
class Objective:
    """What one step minimises, and what it cost to find out."""

    loss: Tensor
    mse: Tensor
    """Mean squared colour error of the batch, detached."""
    rays: int
    samples: int
    stage: str = ""
    terms: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


class RandomBackground:
    """Uniformly random colours behind a batch. Where alpha is known, losses take their expectation over these instead of drawing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, 3, generator=generator).to(self.device)


def expected_error(rgb: Tensor, opacity: Tensor, batch: Batch) -> Tensor:
    """Mean over rays and channels of E[(error over background b)^2], b uniform in [0, 1]; rgb [N, 3] premultiplied, opacity [N].

    The error is e + d b, with e the difference of premultiplied colours and d = alpha - opacity; E[b] = 1/2, E[b^2] = 1/3.
    """
    assert batch.alpha is not None
    e = rgb - batch.alpha[:, None] * batch.rgb
    d = (batch.alpha - opacity)[:, None]
    return (e * (e + d) + d * d / 3.0).mean()


class Callback(Protocol):
    """Looks at a run from outside; the clock stands still meanwhile."""

    def __call__(self, trainer: Trainer, stats: StepStats) -> None: ...


class Pruner(Protocol):
    """Makes a field sparse while it is trained; its state belongs to a checkpoint."""

    def term(self, field: Field) -> Tensor | None:
        """What this step's loss gains."""
        ...

    def stepped(self, trainer: Trainer) -> None:
        """Called after every optimiser step."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


class Trainer:
    """State of a run and the step that advances it.

    ``background(n, generator)`` gives what shows behind a batch, [3] or [n, 3].
    """

    at_points = False
    """Whether the field is also asked at single points, with gradients."""

    def __init__(
        self,
        field: Field,
        batches: BatchSource,
        recipe: Recipe,
        budget: Budget,
        settings: RenderSettings,
        background: Callable[[int, torch.Generator], Tensor],
        seed: int,
        pruner: Pruner | None = None,
    ) -> None:
        self.pruner = pruner
        self.field, self.batches, self.recipe, self.budget = field, batches, recipe, budget
        self.settings = replace(settings, steps=recipe.steps_per_diagonal, termination=recipe.termination, jitter=True)
        self.background = background
        self.optimizer = FieldAdam(field, recipe.rate)
        self.generator = torch.Generator().manual_seed(seed)
        self.rays = FIRST_RAYS
        self.stop = False
        self.graphs = GraphedSteps(self) if field.device.type == "cuda" else None

    def run(self, callbacks: Sequence[Callback] = ()) -> None:
        """Step until the budget is spent or ``stop`` is set."""
        while not (self.budget.done or self.stop):
            self.budget.start()
            stats = self.step()
            self.budget.pause()
            for callback in callbacks:
                callback(self, stats)

    def step(self) -> StepStats:
        progress = self.budget.progress
        self.keep_up(progress)
        recorded = self.graphs.step(progress) if self.graphs is not None else None
        found = recorded or self.objective(progress)
        value = float(found.loss.detach())
        if value != value or value == float("inf"):
            raise UserError(f"training diverged at step {self.budget.step} (the loss is {value}); start again with a smaller --rate")
        factor = self.rate_factor(progress)
        if recorded is None:
            if found.loss.requires_grad:  # else no ray of the batch met an occupied cell
                found.loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step(factor)
        self.budget.step += 1
        if self.pruner is not None:
            self.pruner.stepped(self)

        stats = StepStats(
            *(self.budget.step, self.budget.progress, value, float(found.mse), found.rays, found.samples),
            *(self.recipe.rate * factor, found.stage, {name: float(term.detach()) for name, term in found.terms.items()}),
        )
        self._adapt(found.samples, found.rays)
        return stats

    def keep_up(self, progress: float) -> None:
        """What a step starts with: the field's milestones, and now and then its occupancy."""
        self.pass_milestones(progress)
        if self.budget.step and self.budget.step % INTERVAL == 0:
            self.field.occupancy.update(self.field.density, self.field.space, self.budget.step, self.generator)
            keep_middle(self.field, self.opened(progress))

    def opened(self, progress: float) -> float:
        """Share of the opening that is done."""
        return progress / self.recipe.opening if progress < self.recipe.opening else 1.0

    def next_batch(self, rays: int, progress: float) -> Batch:
        batch = self.batches.next(rays, self.generator)
        return replace(batch, rays=self.approach(batch.rays, progress))

    def approach(self, rays: Rays, progress: float) -> Rays:
        """Rays as the opening has them begin."""
        return approach(rays, self.field.space, self.settings.near / self.field.space.scale, self.opened(progress))

    def pass_milestones(self, progress: float) -> None:
        if self.field.milestone(progress):
            self.optimizer.rebuild(self.field)
            if self.graphs is not None:
                self.graphs.forget()
            # A shrunken box changes what a normalised length is.
            self.settings = replace(self.settings, near=float(self.field.metadata.get("near", self.settings.near)))

    def objective(self, progress: float) -> Objective:
        """Squared colour error of a batch, and the family's priors."""
        batch = self.next_batch(self.rays, progress)
        background = self.behind(batch)
        with kernels.gradients_in_place():
            rendering = render_rays(self.field, batch.rays, self.settings, background=background, generator=self.generator)
            priors = [self.field.regularization(self.budget.step), self.pruner.term(self.field) if self.pruner else None]
        mse = self.picture_error(rendering.rgb, rendering.opacity, batch, background)
        loss = mse
        for prior in priors:
            loss = loss if prior is None else loss + prior
        assert rendering.cost is not None
        return Objective(loss, mse.detach(), len(batch.rays), int(rendering.cost.sum()))

    def in_expectation(self, batch: Batch) -> bool:
        """Whether the error is the mean over all backgrounds rather than that over one."""
        return batch.alpha is not None and isinstance(self.background, RandomBackground)

    def behind(self, batch: Batch) -> Tensor:
        """What a batch is rendered over, [3] or [N, 3]; nothing where the error is a mean over backgrounds."""
        return torch.zeros(3) if self.in_expectation(batch) else self.background(len(batch.rays), self.generator)

    def picture_error(self, rgb: Tensor, opacity: Tensor, batch: Batch, background: Tensor) -> Tensor:
        """Mean squared colour error of a batch, rendered over ``background``."""
        if self.in_expectation(batch):
            return expected_error(rgb, opacity, batch)
        return (rgb - batch.over(background)).square().mean()

    def rate_factor(self, progress: float) -> float:
        """What this step's learning rates are multiplied by."""
        return self.recipe.schedule.factor(self.budget.step, progress)

    def _adapt(self, samples: int, rays: int) -> None:
        """Follow the target number of samples, smoothly, so that a lucky batch does not triple the next one's memory."""
        wanted = rays * self.recipe.samples_at(self.budget.progress) / max(samples, 1)
        self.rays = int(min(max(wanted, 0.5 * rays, 64), 1.5 * rays, self.recipe.max_rays))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint keeps beside the field: tensors and JSON-able counters."""
        tensors = {f"optimizer.{k}": v for k, v in self.optimizer.state().items()}
        tensors["generator"] = self.generator.get_state()
        tensors.update({f"batches.{k}": v for k, v in self.batches.state().items()})
        if self.pruner is not None:
            tensors.update({f"pruner.{k}": v for k, v in self.pruner.state().items()})
        return tensors, {"step": self.budget.step, "seconds": self.budget.elapsed, "rays": self.rays}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.optimizer.load_state(under("optimizer.", tensors))
        self.batches.load_state(under("batches.", tensors))
        if self.pruner is not None:
            self.pruner.load_state(under("pruner.", tensors))
        self.generator.set_state(tensors["generator"].cpu())
        self.budget.step, self.budget.spent, self.rays = int(facts["step"]), float(facts["seconds"]), int(facts["rays"])


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
