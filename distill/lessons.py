"""The lessons a student learns from: asked of the teacher once, learned from several times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..render.camera import Camera
from ..representations.field import Field
from ..training.teacher import VIEWS, Lesson
from ..training.trainer import under
from .active import SHARE, HardPoses, worst_views

RAYS = 8192
"""Rays of one lesson."""
LESSONS = 16
"""Lessons kept."""
FIRST = 2
"""Lessons asked for before the first step."""
REUSE = 8
"""How often a ray of a lesson is learned from where both fields cost the same. A ray of which only the colour is known: once; fused
kernels render it sooner than a student learns it."""
LEAST = 4
"""Rays of a pose that must have been trained before its error counts."""


Draw = Callable[[int, torch.Generator], list[Camera]]
Ask = Callable[[list[Camera], int, torch.Generator], Lesson]


@dataclass
class _Kept:
    lesson: Lesson
    cameras: list[Camera]
    errors: Tensor  # [V] summed squared colour errors of the views' rays since the last lesson was asked for
    rays: Tensor  # [V] how many


def reuse_for(teacher: Field, student: Field) -> int:
    """How often each ray is learned from: so often that asking the teacher costs a fraction of learning.

    A guess from the sizes of the fields' networks; where both are small, :data:`REUSE`.
    """

    def weights(field: Field) -> int:
        """Multiplications per sample: those of its matrices, and as many as a look-up is worth."""
        return 20_000 + sum(p.numel() for p in field.parameters() if p.dim() == 2 and max(p.shape) <= 1024)

    return max(2, min(64, math.ceil(REUSE * weights(teacher) / weights(student))))


class LessonPool:
    """Parts of random lessons, one after another; after every ``reuse`` rays learned, a fresh one takes the oldest's place.

    Args:
        draw: where to look from: number of cameras, generator -> cameras.
        ask: makes a lesson: cameras, rays, generator -> lesson.
        poses: memory of hard poses (PVD-AL, level 1), or None.
    """

    def __init__(self, draw: Draw, ask: Ask, reuse: int, poses: HardPoses | None = None) -> None:
        self.draw, self.ask, self.reuse, self.poses = draw, ask, reuse, poses
        self.kept: list[_Kept] = []
        self.used = 0
        self.made = 0
        self._current: _Kept | None = None

    def next(self, rays: int, generator: torch.Generator) -> Lesson:
        """``rays`` rays (fewer where a lesson has no more)."""
        while self.made < FIRST + self.used // (self.reuse * RAYS):
            self._make(generator)
        chosen = self.kept[int(torch.randint(len(self.kept), (1,), generator=generator))]
        size = len(chosen.lesson)
        rays = min(rays, size)
        first = int(torch.randint(size - rays + 1, (1,), generator=generator))
        self.used += rays
        self._current = chosen
        return chosen.lesson.part(first, first + rays)

    def feedback(self, lesson: Lesson, errors: Tensor) -> None:
        """How wrong the student was: squared colour error [R] of each ray of the part last handed out (others: view -1)."""
        if self.poses is None or self._current is None:
            return
        mine = (lesson.view >= 0).nonzero()[:, 0]
        view = lesson.view.index_select(0, mine)
        self._current.errors.index_add_(0, view, errors.index_select(0, mine))
        self._current.rays.index_add_(0, view, torch.ones_like(view, dtype=torch.float32))

    def _make(self, generator: torch.Generator) -> None:
        cameras = self.draw(VIEWS, generator)
        if self.poses is not None:
            cameras = self.poses.mix(cameras, self._worst(), generator)
        lesson = self.ask(cameras, RAYS, generator)
        zeros = torch.zeros(len(cameras), device=lesson.rgb.device)
        self.kept.append(_Kept(lesson, cameras, zeros, zeros.clone()))
        del self.kept[:-LESSONS]
        self.made += 1

    def _worst(self) -> list[Camera]:
        """The cameras seen worst since the last lesson was asked for."""
        if not self.kept:
            return []
        errors = torch.cat([kept.errors for kept in self.kept])
        rays = torch.cat([kept.rays for kept in self.kept])
        cameras = [camera for kept in self.kept for camera in kept.cameras]
        for kept in self.kept:
            kept.errors.zero_()
            kept.rays.zero_()
        # A pose of whose rays only a handful was trained says little.
        rays = torch.where(rays >= LEAST, rays, torch.zeros_like(rays))
        return [cameras[i] for i in worst_views(errors, rays, round(SHARE * VIEWS))]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-able facts for a checkpoint."""
        tensors = {}
        for i, kept in enumerate(self.kept):
            tensors.update({f"{i}.{name}": tensor for name, tensor in kept.lesson.tensors().items()})
            tensors[f"{i}.errors"], tensors[f"{i}.rays"] = kept.errors, kept.rays
        cameras = [[camera.to_dict() for camera in kept.cameras] for kept in self.kept]
        hard = [camera.to_dict() for camera in self.poses.cameras] if self.poses is not None else []
        return tensors, {"used": self.used, "made": self.made, "cameras": cameras, "hard": hard}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.used, self.made = int(facts["used"]), int(facts["made"])
        self.kept = []
        for i, cameras in enumerate(facts["cameras"]):
            mine = under(f"{i}.", tensors)
            errors, rays = mine.pop("errors"), mine.pop("rays")
            self.kept.append(_Kept(Lesson(**mine), [Camera.from_dict(camera) for camera in cameras], errors, rays))
        if self.poses is not None:
            self.poses.cameras = [Camera.from_dict(camera) for camera in facts["hard"]]
