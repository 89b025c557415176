"""A trained field as the source of supervision: what it says along rays drawn around its own cameras.

:class:`Teacher` asks; :class:`Lesson` holds the answers, sample by sample, ready to be learned from more than
once; :class:`TeacherBatches` is a teacher in the place of photographs, for the ordinary training loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .. import kernels
from ..errors import UserError
from ..render.camera import Camera, CameraSet
from ..render.overview import recorded_cameras
from ..render.renderer import render_rays, seen_samples
from ..render.types import Rays, RenderSettings
from ..representations.field import Field
from .batches import Batch
from .poses import PoseSource

VIEWS = 64
"""Cameras that one lesson's rays are spread over."""
EMPTY = -30.0
"""Log density that stands for none at all: outside the box, pruned, erased."""


@dataclass
class Lesson:
    """A teacher's answers along R rays, at the M samples in front of each ray's termination, packed ray by ray.

    Colours of rays are premultiplied, over nothing. Everything is detached.
    """

    origins: Tensor  # [R, 3] world units
    directions: Tensor  # [R, 3] unit length
    view: Tensor  # [R] int64 which camera of the lesson's the ray belongs to, -1: none
    rgb: Tensor  # [R, 3]
    opacity: Tensor  # [R]
    counts: Tensor  # [R] int64 samples of each ray
    ray: Tensor  # [M] int64
    t: Tensor  # [M] world distance
    delta: Tensor  # [M] normalised length, of the teacher's space
    log_density: Tensor  # [M] of gate * exp(s), per normalised length of the teacher's space; EMPTY where nothing is
    features: Tensor  # [M, F] the hand-over to block 2
    color: Tensor  # [M, 3] block 2's answer
    weight: Tensor  # [M] share of the sample in its ray's colour

    def __len__(self) -> int:
        return self.origins.shape[0]

    @property
    def samples(self) -> int:
        return self.ray.shape[0]

    @property
    def offsets(self) -> Tensor:
        """[R + 1] where each ray's samples begin."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def positions(self) -> tuple[Tensor, Tensor]:
        """World positions and directions of the samples, [M, 3] each."""
        directions = self.directions.index_select(0, self.ray)
        return self.origins.index_select(0, self.ray) + self.t[:, None] * directions, directions

    def part(self, first: int, last: int) -> Lesson:
        """Rays first..last (exclusive), as views where memory allows."""
        begin, end = (int(self.counts[:i].sum()) for i in (first, last))
        rays = {name: getattr(self, name)[first:last] for name in RAY_FIELDS}
        samples = {name: getattr(self, name)[begin:end] for name in SAMPLE_FIELDS}
        samples["ray"] = samples["ray"] - first
        return Lesson(**rays, **samples)

    def choose(self, rays: Tensor) -> Lesson:
        """The rays [K] int64, in that order, copied."""
        counts = self.counts.index_select(0, rays)
        ray = torch.repeat_interleave(torch.arange(len(rays), device=rays.device), counts)
        first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])[:-1]
        begin = self.offsets.index_select(0, rays)
        index = torch.arange(len(ray), device=rays.device) + (begin - first).index_select(0, ray)
        chosen = {name: getattr(self, name).index_select(0, rays) for name in RAY_FIELDS}
        samples = {name: getattr(self, name).index_select(0, index) for name in SAMPLE_FIELDS}
        samples["ray"] = ray
        return Lesson(**chosen, **samples)

    @staticmethod
    def joined(parts: Sequence[Lesson]) -> Lesson:
        """All rays of the parts, in order."""
        if len(parts) == 1:
            return parts[0]
        found = {name: torch.cat([getattr(part, name) for part in parts]) for name in (*RAY_FIELDS, *SAMPLE_FIELDS)}
        shift, rays = 0, []
        for part in parts:
            rays.append(part.ray + shift)
            shift += len(part)
        found["ray"] = torch.cat(rays)
        return Lesson(**found)

    def tensors(self) -> dict[str, Tensor]:
        """By name, for a checkpoint; ``Lesson(**tensors)`` restores it."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}


RAY_FIELDS = ("origins", "directions", "view", "rgb", "opacity", "counts")
SAMPLE_FIELDS = ("ray", "t", "delta", "log_density", "features", "color", "weight")


class Teacher:
    """A frozen field, and where to look at it from.

    Args:
        field: any family; its parameters are not touched and receive no gradient.
        steps: samples along the box's diagonal.
        termination: samples behind this transmittance are not part of a lesson.

    Raises:
        UserError: the field cannot teach: it is dynamic, or its recorded cameras make no sense.
    """

    def __init__(self, field: Field, *, steps: int = 256, termination: float = 1e-3) -> None:
        if field.dynamic:
            raise UserError(f"a {field.family} field moves, and only fields that stand still can teach; bake one moment of it first")
        self.field = field
        self.poses = PoseSource(recorded_cameras(field), field.space)
        self.settings = RenderSettings(steps=steps, termination=termination, jitter=True, near=float(field.metadata.get("near", 0.0)))

    @property
    def picture_settings(self) -> RenderSettings:
        """How whole rays are rendered, where no samples are kept: at twice the steps, without jitter, over nothing."""
        return replace(self.settings, steps=2 * self.settings.steps, jitter=False, background="none")

    def draw_rays(self, cameras: Sequence[Camera], count: int, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """Rays through random places of the cameras' pictures, and which camera [count] each belongs to."""
        views = CameraSet(cameras, self.field.device)
        index = torch.randint(len(cameras), (count,), generator=generator)
        place = torch.rand(count, 2, generator=generator).to(self.field.device)
        index = index.to(self.field.device)
        return views.rays(index, place * views.intrinsics[:, 4:].index_select(0, index)), index

    @torch.no_grad()
    def answer(self, rays: Rays, generator: torch.Generator, *, view: Tensor | None = None, bits: Tensor | None = None) -> Lesson:
        """What the field says along rays, at jittered samples in the occupied cells of ``bits`` (None: its own)."""
        field = self.field
        samples = seen_samples(field, rays, self.settings, bits=bits, generator=generator)
        directions = rays.directions.index_select(0, samples.rays)
        positions = rays.origins.index_select(0, samples.rays) + samples.t[:, None] * directions
        found = field.evaluate(positions, directions)
        gated = found.log_density + found.gate.clamp_min(1e-12).log()
        log_density = torch.where(found.gate > 0.0, gated, torch.full_like(gated, EMPTY))
        delta = samples.delta * field.space.scale
        pixels = kernels.ops(field.device).composite(
            log_density.clamp_max(30.0).exp(), found.rgb, samples.t, delta, samples.offsets, self.settings.termination
        )
        return Lesson(
            origins=rays.origins,
            directions=rays.directions,
            view=torch.full_like(samples.offsets[:-1], -1) if view is None else view,
            rgb=pixels.rgb,
            opacity=pixels.opacity,
            counts=samples.offsets.diff(),
            ray=samples.rays,
            t=samples.t,
            delta=delta,
            log_density=log_density.clamp_min(EMPTY),
            features=found.features,
            color=found.rgb,
            weight=pixels.weights,
        )

    def lesson(self, cameras: Sequence[Camera], rays: int, generator: torch.Generator, *, bits: Tensor | None = None) -> Lesson:
        """About ``rays`` random rays of the cameras that meet an occupied cell; the others show nothing but background."""
        kept: list[Lesson] = []
        missing, drawn = rays, 0
        while missing > 0 and drawn < 8 * rays:
            drawn += missing
            along, view = self.draw_rays(cameras, missing, generator)
            found = self.answer(along, generator, view=view, bits=bits)
            hit = (found.counts > 0).nonzero()[:, 0]
            if hit.numel():
                kept.append(found.choose(hit))
            missing -= max(hit.numel(), missing // 64)
        return Lesson.joined(kept) if kept else found

    @torch.no_grad()
    def pictures(self, cameras: Sequence[Camera], rays: int, generator: torch.Generator, *, all_rays: bool = False) -> Lesson:
        """A lesson without samples: only the colours of whole rays, which one fused call renders.

        Args:
            all_rays: keep those that meet no occupied cell, too; they show nothing.
        """
        along, view = self.draw_rays(cameras, rays if all_rays else 2 * rays, generator)
        seen = render_rays(self.field, along, self.picture_settings)
        device = self.field.device
        none, index = torch.zeros(0, device=device), torch.zeros(0, dtype=torch.int64, device=device)
        found = Lesson(
            origins=along.origins,
            directions=along.directions,
            view=view,
            rgb=seen.rgb,
            opacity=seen.opacity,
            counts=torch.zeros_like(view),
            ray=index,
            t=none,
            delta=none,
            log_density=none,
            weight=none,
            features=none.reshape(0, 0),
            color=none.reshape(0, 3),
        )
        if all_rays:
            return found
        assert seen.cost is not None
        return found.choose((seen.cost > 0).nonzero()[:rays, 0])


class TeacherBatches:
    """A teacher in the place of photographs: a :class:`BatchSource` of rays with the colours the field gives them.

    Rays come from a pool; each is used about ``reuse`` times before a fresh one takes its place, so that a slow
    teacher is asked less often than its student learns. Rays that meet nothing are part of it, as in a photograph.
    """

    def __init__(self, teacher: Teacher, *, pool: int = 1 << 17, reuse: int = 4) -> None:
        self.teacher, self.size, self.reuse = teacher, pool, reuse
        self._pool: Tensor | None = None  # [size, 10]: origin, direction, premultiplied colour, opacity
        self._used = 0

    def next(self, rays: int, generator: torch.Generator) -> Batch:
        """Draw ``rays`` rays of the pool with replacement."""
        if self._pool is None:
            self._pool = self._ask(self.size, generator)
        pool, before = self._pool, self._used // self.reuse
        self._used += rays
        fresh = min(self._used // self.reuse - before, self.size)
        if fresh:
            place = (before + torch.arange(fresh)) % self.size  # the oldest
            pool[place.to(pool.device)] = self._ask(fresh, generator)
        pick = torch.randint(self.size, (rays,), generator=generator).to(pool.device)
        origins, directions, rgb, opacity = torch.split(pool.index_select(0, pick), [3, 3, 3, 1], 1)
        straight = torch.where(opacity > 0.0, rgb / opacity.clamp_min(1e-6), rgb)
        return Batch(Rays(origins.contiguous(), directions.contiguous()), straight, opacity[:, 0])

    @torch.no_grad()
    def _ask(self, count: int, generator: torch.Generator) -> Tensor:
        seen = self.teacher.pictures(self.teacher.poses.draw(min(VIEWS, count), generator), count, generator, all_rays=True)
        return torch.cat([seen.origins, seen.directions, seen.rgb, seen.opacity[:, None]], 1)

    def state(self) -> dict[str, Tensor]:
        """The pool, for a checkpoint."""
        found = {"used": torch.tensor(self._used)}
        return found if self._pool is None else {**found, "pool": self._pool}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._used, self._pool = int(state["used"]), state.get("pool")
