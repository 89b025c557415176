"""The distillation step: what a student is made to agree with its teacher on, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..render.types import RenderSettings
from ..representations.field import Field, truncated_exp
from ..training.budget import Budget
from ..training.recipes import Recipe
from ..training.teacher import Lesson, Teacher
from ..training.trainer import BatchSource, Objective, Trainer, under
from .active import HardPoses, HardRays, heavy_points
from .lessons import LessonPool, reuse_for
from .losses import clamped, density_shift, rms
from .options import DistillOptions

OTHERS = 0.1
"""Share of the light points that are compared all the same in the stages before rays, so that space in front of matter is not forgotten."""


class NoPhotographs:
    """The batches of a distillation that has no last stage."""

    def next(self, rays: int, generator: torch.Generator) -> Any:
        raise RuntimeError("a distillation without photographs asked for one")

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


class Distiller(Trainer):
    """A :class:`Trainer` whose steps compare the student with a teacher at the same points of the same rays.

    The teacher marches; the student is evaluated at the very samples that make up the teacher's picture, once, with
    gradients.  ``photographs`` are what the last stage trains on, if there is one.
    """

    def __init__(
        self,
        student: Field,
        teacher: Teacher,
        options: DistillOptions,
        recipe: Recipe,
        budget: Budget,
        settings: RenderSettings,
        background: Callable[[int, torch.Generator], Tensor],
        photographs: BatchSource | None = None,
    ) -> None:
        super().__init__(student, photographs or NoPhotographs(), recipe, budget, settings, background, options.seed + 1)
        self.teacher, self.options = teacher, options
        self.handover = student.has_handover and teacher.field.has_handover
        self.hard_rays = HardRays()
        self.lessons = LessonPool(
            teacher,
            reuse_for(teacher.field, student),
            (lambda: teacher.field.occupancy.bits) if options.inherit else (lambda: self.field.occupancy.bits),
            HardPoses() if options.active_images else None,
        )

    def stage(self, progress: float) -> str:
        return self.options.stage_at(progress, self.handover)

    def keep_up(self, progress: float) -> None:
        """Milestones; the occupancy is the teacher's, and is looked at anew only where it was not inherited or photographs teach."""
        if self.options.inherit and self.stage(progress) != "photographs":
            self.pass_milestones(progress)
        else:
            super().keep_up(progress)

    def rate_factor(self, progress: float) -> float:
        stage = self.stage(progress)
        rates = dict(zip(("features", "points", "rays"), self.options.stage_rates, strict=True))
        return super().rate_factor(progress) * rates.get(stage, 1.0)

    def objective(self, progress: float) -> Objective:
        stage = self.stage(progress)
        if stage == "photographs":
            return replace(super().objective(progress), stage=stage)
        if stage == "rays":
            return self._rays(progress)
        return self._points(stage, progress)

    def _points(self, stage: str, progress: float) -> Objective:
        """Stages 1 and 2: the student is evaluated only at the points its losses look at; nothing is rendered."""
        lesson = self.lessons.next(self.rays, self.generator)
        positions, directions = lesson.positions()
        index: Tensor | None = None
        if self.options.active_points:
            chosen = heavy_points(lesson.weight, lesson) | (torch.rand(lesson.samples, generator=self.generator) < OTHERS).to(
                positions.device
            )
            index = chosen.nonzero()[:, 0]
            positions, directions = positions.index_select(0, index), directions.index_select(0, index)
        with kernels.gradients_in_place():
            found = self.field.evaluate(positions, directions)
        terms = self._point_terms(lesson, found.log_density, found.features, found.rgb, index, index, colors=stage == "points")
        color = found.rgb.detach() - (lesson.color if index is None else lesson.color.index_select(0, index))
        mse = color.square().mean() if color.numel() else color.sum()
        return Objective(self._sum(terms, progress), mse, len(lesson), len(positions), stage, terms)

    def _rays(self, progress: float) -> Objective:
        """Stage 3: all losses, and the colours of whole rays over random backgrounds."""
        hard = self.hard_rays.draw(self.generator) if self.options.active_rays else None
        lesson = self.lessons.next(self.rays - (0 if hard is None else len(hard)), self.generator)
        if hard is not None:
            lesson = Lesson.joined([lesson, hard])
        positions, directions = lesson.positions()
        space, theirs = self.field.space, self.teacher.field.space
        background = torch.rand(len(lesson), 3, generator=self.generator).to(positions.device)
        with kernels.gradients_in_place():
            found = self.field.evaluate(positions, directions)
            density = found.gate * truncated_exp(found.log_density)
            seen = kernels.ops(positions.device).composite(
                density, found.rgb, lesson.t, lesson.delta * (space.scale / theirs.scale), lesson.offsets, self.settings.termination
            )
            prior = self.field.regularization(self.budget.step)
        index = None
        if self.options.active_points:
            heavy = heavy_points(lesson.weight, lesson) | heavy_points(seen.weights.detach(), lesson)
            index = heavy.nonzero()[:, 0]
        terms = self._point_terms(lesson, found.log_density, found.features, found.rgb, None, index, colors=True)
        difference = (seen.rgb - lesson.rgb) - (seen.opacity - lesson.opacity)[:, None] * background
        terms["rgb"] = rms(difference)
        if prior is not None:
            terms["prior"] = prior
        wrong = difference.detach()
        self.lessons.feedback(lesson, wrong.square().sum(-1))
        if self.options.active_rays:
            self.hard_rays.put(lesson, wrong.abs().sum(-1))
        mse = wrong[: len(lesson) - (0 if hard is None else len(hard))].square().mean()
        return Objective(self._sum(terms, progress), mse, len(lesson), lesson.samples, "rays", terms)

    def _point_terms(
        self,
        lesson: Lesson,
        log_density: Tensor,
        features: Tensor,
        rgb: Tensor,
        evaluated: Tensor | None,
        compared: Tensor | None,
        *,
        colors: bool,
    ) -> dict[str, Tensor]:
        """The losses at points: of the student's answers at the lesson's samples ``evaluated``, those ``compared`` (None: all)."""

        def theirs(values: Tensor) -> Tensor:
            return values if compared is None else values.index_select(0, compared)

        def mine(values: Tensor) -> Tensor:
            return values if compared is None or evaluated is compared else values.index_select(0, compared)

        goal = theirs(lesson.log_density) + density_shift(self.teacher.field.space, self.field.space)
        s = mine(log_density)
        if self.options.clamp:
            goal, s = clamped(goal), clamped(s)
        if not s.numel():
            return {}
        apart = s - goal
        terms: dict[str, Tensor] = {}
        if self.handover:
            terms["features"] = rms(torch.cat([apart[:, None], mine(features) - theirs(lesson.features)], 1))
        if colors:
            terms["density"] = rms(apart)
            terms["color"] = rms(mine(rgb) - theirs(lesson.color))
        return terms

    def _sum(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        options = self.options
        weights = {
            "features": options.feature_weight * math.exp(-options.feature_decay * progress),
            "density": options.density_weight,
            "color": options.color_weight,
        }
        parts = [weights.get(name, 1.0) * term for name, term in terms.items()]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = super().state()
        mine, facts["lessons"] = self.lessons.state()
        tensors.update({f"lessons.{name}": tensor for name, tensor in mine.items()})
        for i, lesson in enumerate(self.hard_rays.memory):
            tensors.update({f"hard.{i}.{name}": tensor for name, tensor in lesson.tensors().items()})
        facts["hard"] = len(self.hard_rays.memory)
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        super().load_state(tensors, facts)
        self.lessons.load_state(under("lessons.", tensors), facts["lessons"])
        self.hard_rays.memory = [Lesson(**under(f"hard.{i}.", tensors)) for i in range(int(facts["hard"]))]
