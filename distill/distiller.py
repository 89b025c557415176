"""The distillation step: what a student is made to agree with its teacher on, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..kernels.reference import Evaluation
from ..render.renderer import render_rays
from ..render.types import Rays, RenderSettings
from ..representations.field import Field
from ..training.budget import Budget
from ..training.recipes import Recipe
from ..training.teacher import Lesson, Teacher
from ..training.trainer import BatchSource, Objective, Trainer, under
from .active import HardPoses, HardRays, heavy_points
from .lessons import REUSE, LessonPool, reuse_for
from .losses import clamped, density_shift, rms
from .options import DistillOptions

OTHERS = 0.1
"""Share of the light points that are compared all the same, so that space in front of matter is not forgotten."""
BESIDE = 0.3
"""Rays whose points are compared in the stage of rays, relative to the rays that are rendered."""


class NoPhotographs:
    """The batches of a distillation that has no last stage."""

    def next(self, rays: int, generator: torch.Generator) -> Any:
        raise RuntimeError("a distillation without photographs asked for one")

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


class Distiller(Trainer):
    """A :class:`Trainer` whose steps compare the student with a teacher: at points of the teacher's rays, and along whole rays.

    Points cost the teacher a march and an answer each, so they are kept and learned from several times; whole rays come from
    the fused renderer, are as cheap as photographs, and are always new. ``photographs`` are what the last stage trains on, if there is one.
    """

    at_points = True

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
        self.handover = options.features and student.has_handover and teacher.field.has_handover
        self.hard_rays = HardRays()

        def bits() -> Tensor:
            return (teacher.field if options.inherit else self.field).occupancy.bits

        reuse = reuse_for(teacher.field, student)
        self.lessons = LessonPool(
            teacher.poses.draw, lambda cameras, rays, generator: teacher.lesson(cameras, rays, generator, bits=bits()), reuse
        )
        self.pictures = LessonPool(
            teacher.poses.draw,
            # A student that did not inherit the teacher's occupancy may show something where the teacher shows nothing.
            lambda cameras, rays, generator: teacher.pictures(cameras, rays, generator, all_rays=not options.inherit),
            max(1, reuse // REUSE),
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
        """Stages 1 and 2: nothing is rendered."""
        terms, mse, lesson, samples = self._compared(self.rays, stage)
        return Objective(self._sum(terms, progress), mse, lesson, samples, stage, terms)

    def _rays(self, progress: float) -> Objective:
        """Stage 3: colours of whole rays, over random backgrounds, and at some of the points all losses of the stages before."""
        hard = self.hard_rays.draw(self.generator) if self.options.active_rays else None
        lesson = self.pictures.next(self.rays - (0 if hard is None else len(hard)), self.generator)
        fresh = len(lesson)
        if hard is not None:
            lesson = Lesson.joined([lesson, hard])
        background = torch.rand(len(lesson), 3, generator=self.generator).to(lesson.rgb.device)
        with kernels.gradients_in_place():
            rays = Rays(lesson.origins, lesson.directions)
            seen = render_rays(self.field, rays, self.settings, background=torch.zeros(3), generator=self.generator)
            prior = self.field.regularization(self.budget.step)
        difference = (seen.rgb - lesson.rgb) - (seen.opacity - lesson.opacity)[:, None] * background
        terms, _, _, _ = self._compared(max(1, round(BESIDE * self.rays)), "rays")
        terms["rgb"] = rms(difference)
        if prior is not None:
            terms["prior"] = prior
        wrong = difference.detach()
        self.pictures.feedback(lesson, wrong.square().sum(-1))
        if self.options.active_rays:
            self.hard_rays.put(lesson, wrong.abs().sum(-1))
        assert seen.cost is not None
        return Objective(self._sum(terms, progress), wrong[:fresh].square().mean(), len(lesson), int(seen.cost.sum()), "rays", terms)

    def _compared(self, rays: int, stage: str) -> tuple[dict[str, Tensor], Tensor, int, int]:
        """The losses at points along about ``rays`` rays, how wrong their colours are, how many rays and points that were.

        The student answers only at the points that are compared: with active points those that weigh most for the teacher, or
        for the student as it would be composited there, and some of the others. What weighs for the student is asked once it
        is rendered, in the ``stage`` of rays: that takes an answer at every sample, and before, its weights mean nothing yet.
        """
        lesson = self.lessons.next(rays, self.generator)
        positions, directions = lesson.positions()
        index: Tensor | None = None
        if self.options.active_points:
            some = (torch.rand(lesson.samples, generator=self.generator) < OTHERS).to(positions.device)
            chosen = heavy_points(lesson.weight, lesson) | some
            if stage == "rays":
                chosen |= heavy_points(self._weights(lesson, positions), lesson)
            index = chosen.nonzero()[:, 0]
            positions, directions = positions.index_select(0, index), directions.index_select(0, index)
        with kernels.gradients_in_place():
            found = self.field.evaluate(positions, directions)
        terms = self._point_terms(lesson, found, index, colors=stage != "features")
        color = found.rgb.detach() - (lesson.color if index is None else lesson.color.index_select(0, index))
        return terms, color.square().mean() if color.numel() else color.sum(), len(lesson), len(positions)

    @torch.no_grad()
    def _weights(self, lesson: Lesson, positions: Tensor) -> Tensor:
        """What share of its ray each sample would be if the student were rendered there, [M]."""
        scale = self.field.space.scale / self.teacher.field.space.scale
        density = self.field.density(positions)
        seen = kernels.ops(positions.device).composite(
            density, lesson.color, lesson.t, lesson.delta * scale, lesson.offsets, self.settings.termination
        )
        weights: Tensor = seen.weights
        return weights

    def _point_terms(self, lesson: Lesson, found: Evaluation, index: Tensor | None, *, colors: bool) -> dict[str, Tensor]:
        """The losses at points: the student's answers at the lesson's samples ``index`` (None: all) against the teacher's."""

        def theirs(values: Tensor) -> Tensor:
            return values if index is None else values.index_select(0, index)

        s = found.log_density
        goal = theirs(lesson.log_density) + density_shift(self.teacher.field.space, self.field.space)
        if self.options.clamp:
            goal, s = clamped(goal), clamped(s)
        if not s.numel():
            return {}
        apart = s - goal
        terms: dict[str, Tensor] = {}
        if self.handover:
            terms["features"] = rms(torch.cat([apart[:, None], found.features - theirs(lesson.features)], 1))
        if colors:
            terms["density"] = rms(apart)
            terms["color"] = rms(found.rgb - theirs(lesson.color))
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
        for pool in ("lessons", "pictures"):
            mine, facts[pool] = getattr(self, pool).state()
            tensors.update({f"{pool}.{name}": tensor for name, tensor in mine.items()})
        for i, lesson in enumerate(self.hard_rays.memory):
            tensors.update({f"hard.{i}.{name}": tensor for name, tensor in lesson.tensors().items()})
        facts["hard"] = len(self.hard_rays.memory)
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        super().load_state(tensors, facts)
        for pool in ("lessons", "pictures"):
            getattr(self, pool).load_state(under(f"{pool}.", tensors), facts[pool])
        self.hard_rays.memory = [Lesson(**under(f"hard.{i}.", tensors)) for i in range(int(facts["hard"]))]
