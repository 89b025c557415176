"""PVD-AL's three levels of active learning (section 4): learn most where student and teacher differ most.

The paper's intent where its released code departs from it: that code pairs the errors of shuffled poses with
poses in storage order, so that its first level picks at random; here errors carry the pose they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..render.camera import Camera
from ..training.poses import turned
from ..training.teacher import Lesson

SHARE = 0.1
"""Share of poses, and of rays, that count as hard and are looked at again."""
TURN = math.pi / 20
"""Most that a hard pose is rolled, pitched and yawed."""
POSES = 100
"""Hard poses remembered."""
BATCHES = 64
"""Batches whose hard rays are remembered."""
HEAVY = 0.3
"""Share of a ray's samples that count as making up the ray ..."""
OPAQUE = 0.5
"""... where the ray is at least this opaque."""


class HardPoses:
    """Level 1: poses seen worst come back, slightly turned, among the next ones."""

    def __init__(self) -> None:
        self.cameras: list[Camera] = []

    def mix(self, fresh: Sequence[Camera], worst: Sequence[Camera], generator: torch.Generator) -> list[Camera]:
        """``fresh`` poses, a tenth of them replaced by turned hard ones; their places in memory go to the ``worst`` of the last poses."""
        cameras = list(fresh)
        count = min(round(SHARE * len(cameras)), len(self.cameras))
        picks = torch.randperm(len(self.cameras), generator=generator)[:count].tolist()
        places = torch.randperm(len(cameras), generator=generator)[:count].tolist()
        for pick, place in zip(picks, places, strict=True):
            cameras[place] = turned(self.cameras[pick], TURN, generator)
        newest = list(worst)
        for pick in picks[: len(newest)] if len(self.cameras) >= POSES else ():
            self.cameras[pick] = newest.pop()
        self.cameras += newest[: POSES - len(self.cameras)]
        return cameras


def worst_views(errors: Tensor, rays: Tensor, count: int) -> list[int]:
    """The ``count`` views with the largest mean squared error, worst first; sums of ``errors`` [V] over ``rays`` [V] trained rays."""
    known = (rays > 0).nonzero()[:, 0]
    mean = errors.index_select(0, known) / rays.index_select(0, known)
    worst = torch.topk(mean, min(count, len(known))).indices
    found: list[int] = known.index_select(0, worst).tolist()
    return found


class HardRays:
    """Level 2: the tenth of a batch with the largest colour differences, remembered with what the teacher said about them.

    A step takes one remembered tenth along and puts the new worst tenth of its batch in its place, so that
    nothing is forgotten before it was trained once more.
    """

    def __init__(self) -> None:
        self.memory: list[Lesson] = []
        self._slot: int | None = None

    def draw(self, generator: torch.Generator) -> Lesson | None:
        """Hard rays for this batch; None while the memory fills."""
        if len(self.memory) < BATCHES:
            self._slot = None
            return None
        self._slot = int(torch.randint(len(self.memory), (1,), generator=generator))
        return self.memory[self._slot]

    def put(self, lesson: Lesson, difference: Tensor) -> None:
        """The batch just trained, and each of its rays' colour difference [R]."""
        hard = lesson.choose(torch.topk(difference, max(1, round(SHARE * len(lesson)))).indices)
        hard.view.fill_(-1)  # its cameras will be gone
        if self._slot is None:
            self.memory.append(hard)
        else:
            self.memory[self._slot] = hard


def heavy_points(weight: Tensor, lesson: Lesson) -> Tensor:
    """Level 3: bool [M], the samples of the lesson that by ``weight`` [M] make up their rays.

    Of each ray whose weights sum to at least :data:`OPAQUE`, the :data:`HEAVY` share of its samples with the
    largest weights (at least one).
    """
    if not lesson.samples:
        return lesson.ray.to(torch.bool)
    ray, counts = lesson.ray, lesson.counts
    # One sort for all rays: by ray, then by falling weight.
    order = torch.argsort(ray.double() - 0.5 * weight.double().clamp(0.0, 1.0))
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - lesson.offsets[:-1].index_select(0, ray)
    kept = torch.ceil(HEAVY * counts).to(torch.int64)
    total = torch.zeros(len(counts), device=weight.device).index_add_(0, ray, weight)
    kept = torch.where(total >= OPAQUE, kept, torch.zeros_like(kept))
    return rank < kept.index_select(0, ray)
