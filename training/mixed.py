"""Training of mixed fields (MixVoxels, section 4): a variation field, a static branch on the temporal mean, a dynamic one on the frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..kernels.reference import Samples
from ..render.lattice import lattice_edges, ray_range
from ..render.renderer import render_rays
from ..render.times import render_times
from ..render.types import Rays, RenderSettings
from ..representations.field import Field
from ..representations.milestones import marks_passed
from ..representations.mixed import MixedField, MixedMoment
from ..representations.occupancy import INTERVAL
from ..representations.variation import VariationField, variation_resolution
from .budget import Budget
from .opening import keep_middle
from .optimizer import BETAS, EPS
from .recipes import Recipe
from .trainer import Objective, Trainer, under
from .video import VideoBatches
from .witnesses import witnessed

SPLIT = 0.1
"""Share of the training after which the dynamic branch starts, in the cells that the variation field names."""
REFIT = 0.5
"""Until then the variation field is trained on and the cells are named anew at every mark."""
HOLD = 0.55
"""Until then every moving cell is looked at, whatever the dynamic branch says of it."""
SETTLED = 0.7
"""From then on the occupancy asks one branch per cell, and the empty-space rule holds."""
DEVIATION = 0.03
"""Temporal deviation from which a pixel counts as moving (MixVoxels: 0.02 or 0.03)."""
POSITIVE = 19.0
"""Weight of moving rays in the variation field's cross entropy (MixVoxels)."""
VARIATION_RAYS = 512
VARIATION_RATE = 0.02
EVERY = 4
"""Steps between two of the variation field once the dynamic branch trains."""
THRESHOLD, REACH = 0.3, 1
"""A cell moves where the variation field's probability is above the threshold, or so many cells away."""
FRAMES = 64
"""Most frames of a ray that a step compares."""
HOT, COLD = 10.0, 0.2
"""Temperature of the choice of frames, where there are more, at the start and at the end (MixVoxels)."""
CONE = 1.0 / 32.0
"""Far steps are eight times as long as in pictures: what counts while fog has to clear is how many rays a step has."""
THOROUGH = 64
"""Up to this step an update of the occupancy visits every cell: fog without bounds makes the first steps the longest."""
FIRST_RAYS, FIRST_MOVING = 128, 64
"""Rays of the first step: before the occupancy knows anything, a ray through unbounded space has over a thousand samples."""


class MixedTrainer(Trainer):
    """Every step trains the static branch on random rays and the dynamic one on rays that cross moving cells, in one backward pass."""

    field: MixedField
    batches: VideoBatches

    def __init__(
        self,
        field: Field,
        batches: VideoBatches,
        recipe: Recipe,
        budget: Budget,
        settings: RenderSettings,
        background: Callable[[int, torch.Generator], Tensor],
        seed: int,
    ) -> None:
        assert isinstance(field, MixedField)
        super().__init__(field, batches, recipe, budget, settings, background, seed)
        self.graphs = None  # a step here is more than one picture's
        self.settings = replace(self.settings, cone=CONE)
        self.mean_scene = MixedMoment(field, 0.0, "background")
        self.splitter = Splitter(field, seed)
        self.rays, self.moving_rays = FIRST_RAYS, FIRST_MOVING
        if field.options.everything and not len(batches.crossing):
            batches.cross(torch.ones(batches.count, dtype=torch.bool))

    @property
    def first(self) -> float:
        """Progress at which the dynamic branch starts."""
        return 0.0 if self.field.options.everything else SPLIT

    def keep_up(self, progress: float) -> None:
        self.pass_milestones(progress)
        if self.budget.step and self.budget.step % INTERVAL == 0:
            alone = progress < self.first  # the dynamic branch is not asked yet
            density = self.mean_scene.density if alone else partial(self.field.peak_density, settled=progress >= SETTLED)
            everywhere = 1.0 if alone and self.budget.step <= THOROUGH else None
            self.field.occupancy.update(density, self.field.space, self.budget.step, self.generator, everywhere)
            if self.first <= progress < HOLD:
                self.field.occupancy.bits |= self.field.split
            keep_middle(self.field, self.opened(progress))
        if not self.field.options.everything and self.splitter.due(progress):
            self.splitter.cut(progress, self.batches)
            self.batches.cross(crossing(self.batches, self.field, self.settings))

    def objective(self, progress: float) -> Objective:
        terms: dict[str, Tensor] = {}
        if not self.field.options.everything and (progress < SPLIT or (progress < REFIT and self.budget.step % EVERY == 0)):
            terms["variation"] = self.splitter.step(self.batches, self.settings, self.generator)
        mean, moved = torch.zeros(()), torch.zeros(())
        samples, rays, moving_samples = 0, 0, 0
        with kernels.gradients_in_place():
            if not self.field.options.everything:
                mean, samples = self._mean_error(progress)
                rays, terms["static"] = self.rays, mean.detach()
            if progress >= self.first and len(self.batches.crossing):
                moved, moving_samples = self._clip_error(progress)
                terms["dynamic"] = moved.detach()
            prior = self.field.regularization(self.budget.step)
        loss = mean + moved if prior is None else mean + moved + prior
        shown = terms.get("dynamic", terms.get("static", moved.detach()))
        return Objective(loss, shown, max(rays, 1), samples + moving_samples, "moving" if progress >= self.first else "split", terms)

    def _mean_error(self, progress: float) -> tuple[Tensor, int]:
        """Squared error of the static branch against the temporal mean, over all rays; samples spent."""
        batch = self.next_batch(self.rays, progress)
        behind = self.background(len(batch.rays), self.generator)
        seen = render_rays(self.mean_scene, batch.rays, self.settings, background=behind, generator=self.generator)
        assert seen.cost is not None
        self.still_samples = int(seen.cost.sum())
        return (seen.rgb - batch.over(behind)).square().mean(), self.still_samples

    def _clip_error(self, progress: float) -> tuple[Tensor, int]:
        """Squared error of rays that cross moving cells, at many frames; samples spent, one for each time."""
        frames = self.batches.choose_frames(FRAMES, HOT + (COLD - HOT) * progress, self.generator)
        rays, target = self.batches.moving(self.moving_rays, frames, self.generator)
        rays = self.approach(rays, progress)
        chosen = None if len(frames) == self.field.frames else frames.to(self.field.device)
        seen = render_times(self.field, rays, self.settings, frames=chosen, generator=self.generator)
        behind = self.background(len(rays), self.generator).reshape(-1, 3, 1)
        error = (seen.rgb + (1.0 - seen.opacity[:, None]) * behind - target).square().mean()
        wanted = self.moving_rays * (self.recipe.samples // 2) / max(seen.moving, 1)
        self.moving_rays = int(min(max(wanted, 0.5 * self.moving_rays, 32), 1.5 * self.moving_rays, 1 << 13))
        return error, seen.still + seen.moving

    def _adapt(self, samples: int, rays: int) -> None:
        if not self.field.options.everything:
            super()._adapt(self.still_samples, rays)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = super().state()
        tensors.update({f"splitter.{name}": tensor for name, tensor in self.splitter.state().items()})
        return tensors, {**facts, "moving_rays": self.moving_rays}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        super().load_state(tensors, facts)
        self.splitter.load_state(under("splitter.", tensors))
        self.moving_rays = int(facts["moving_rays"])


class Splitter:
    """Learns where things move, and cuts the field's space into cells that do and cells that do not."""

    def __init__(self, field: MixedField, seed: int) -> None:
        self.field = field
        options = field.options
        self.variation = VariationField(field.space, options.start).to(field.device)
        self.variation.reset_parameters(torch.Generator().manual_seed(seed))
        self.cuts = 0
        self._fresh_moments()

    def _fresh_moments(self) -> None:
        self.count = 0
        self.first = {name: torch.zeros_like(p) for name, p in self.variation.named_parameters()}
        self.second = {name: torch.zeros_like(p) for name, p in self.variation.named_parameters()}

    def due(self, progress: float) -> bool:
        """Whether the cells are to be named (anew): at first, behind each mark of the field, and at the end of the fitting."""
        return marks_passed(self._marks(), progress) > self.cuts

    def _marks(self) -> list[float]:
        between = [mark + 0.04 for mark in self.field.options.marks if SPLIT < mark + 0.04 < REFIT]
        return [SPLIT, *between, REFIT]

    def cut(self, progress: float, batches: VideoBatches) -> None:
        """Name the moving cells and give the variation field the resolution that is due."""
        field, marks = self.field, self.field.options.marks
        self.cuts = marks_passed(self._marks(), progress)
        before = field.split.clone()
        named = self.variation.cells(field.occupancy.resolution, THRESHOLD, REACH)
        field.split.copy_(witnessed(named, field.space, batches.cameras.cameras, batches.changing(DEVIATION)))
        fresh = field.split & ~before if self.cuts > 1 else field.split
        field.occupancy.density[fresh] = -1.0  # nobody has looked at what the dynamic branch makes of them
        field.occupancy.refresh_bits()
        field.occupancy.bits |= field.split
        if marks and progress < REFIT:
            share = min(1.0, (marks_passed(marks, progress) + 1) / len(marks))
            self.variation.refine(variation_resolution(field.options.start, field.options.final, share))
            self._fresh_moments()

    def step(self, batches: VideoBatches, settings: RenderSettings, generator: torch.Generator) -> Tensor:
        """One step of Adam on the cross entropy of rays that change, whose logit is the greatest of their samples'."""
        rays, deviation = batches.variation(VARIATION_RAYS, generator)
        samples = coarse_samples(self.field, rays, settings, generator)
        logits, here = self._ray_logits(rays, samples)
        target = (deviation[here] > DEVIATION).to(logits.dtype)
        weight = torch.tensor(POSITIVE, device=logits.device)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
        loss.backward()  # type: ignore[no-untyped-call]
        self.count += 1
        for name, parameter in self.variation.named_parameters():
            assert parameter.grad is not None
            kernels.ops(parameter.device).adam_(
                *(parameter, parameter.grad, self.first[name], self.second[name], self.count, VARIATION_RATE, BETAS, EPS), clear=True
            )
        return loss.detach()

    def _ray_logits(self, rays: Rays, samples: Samples) -> tuple[Tensor, Tensor]:
        """The greatest logit of each ray that has samples, and which rays [K] these are. A gradient reaches one sample of each."""
        positions = rays.origins.index_select(0, samples.rays) + samples.t[:, None] * rays.directions.index_select(0, samples.rays)
        unit = self.field.space.to_unit(positions)
        with torch.no_grad():
            logits = self.variation(unit)
            best = torch.full((len(rays),), float("-inf"), device=logits.device).scatter_reduce(0, samples.rays, logits, "amax")
            place = torch.full((len(rays),), -1, dtype=torch.int64, device=logits.device)
            top = (logits == best[samples.rays]).nonzero()[:, 0]
            place[samples.rays[top]] = top
        here = (place >= 0).nonzero()[:, 0]
        return self.variation(unit.index_select(0, place[here])), here

    def state(self) -> dict[str, Tensor]:
        found = {f"variation.{name}": p.detach() for name, p in self.variation.named_parameters()}
        found |= {f"first.{name}": m for name, m in self.first.items()}
        found |= {f"second.{name}": m for name, m in self.second.items()}
        return {**found, "counts": torch.tensor([self.cuts, self.count])}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, parameter in under("variation.", state).items():
            group, index = name.split(".")
            getattr(self.variation, group)[int(index)] = torch.nn.Parameter(parameter.clone())
        self.first = {name: m.clone() for name, m in under("first.", state).items()}
        self.second = {name: m.clone() for name, m in under("second.", state).items()}
        self.cuts, self.count = (int(n) for n in state["counts"])


def coarse_samples(field: MixedField, rays: Rays, settings: RenderSettings, generator: torch.Generator) -> Samples:
    """Samples along all of each ray, whatever the occupancy says, in steps about as long as the variation field's voxels."""
    space, ops = field.space, kernels.ops(field.device)
    settings = within_reach(settings)
    near, far = ray_range(space, rays, settings, ops)
    jitter = torch.rand(len(rays), generator=generator).to(near)
    everywhere = torch.ones(1, 1, 1, dtype=torch.bool, device=field.device)
    along = (rays.origins, rays.directions, near, far, jitter, lattice_edges(space, settings, field.device), everywhere)
    return Samples(*ops.march(*along, space.lower, space.upper, space.unbounded))


def within_reach(settings: RenderSettings) -> RenderSettings:
    """A training step's settings for cells that move, which lie no farther away than the box is long: its middle is the scene."""
    return replace(settings, far=settings.near + 2.0 * 3.0**0.5)


@torch.no_grad()
def crossing(batches: VideoBatches, field: MixedField, settings: RenderSettings) -> Tensor:
    """Which pixels' rays meet a moving cell, bool [P]."""
    space, ops, settings = field.space, kernels.ops(field.device), within_reach(settings)
    edges = lattice_edges(space, settings, field.device)
    found = torch.zeros(batches.count, dtype=torch.bool)
    for part in torch.split(torch.arange(batches.count), 1 << 14):
        rays = batches.rays(part.numpy())
        near, far = ray_range(space, rays, settings, ops)
        along = (rays.origins, rays.directions, near, far, torch.full_like(near, 0.5), edges, field.split)
        offsets = Samples(*ops.march(*along, space.lower, space.upper, space.unbounded)).offsets
        found[part] = (offsets.diff() > 0).cpu()
    return found
