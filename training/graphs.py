"""Training steps as CUDA graphs: render, loss, backward and Adam recorded once and launched as one.

A step is some fifty short launches, each of which costs the processor more than the GPU.  What can be recorded is a step
over buffers of fixed size in which nothing is asked of the device; the number of rays is therefore rounded down to steps of
a fourth of a doubling, and a graph is recorded once the same number was wanted a few times in a row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import kernels
from .. import progress as progress_output
from ..render.lattice import lattice_edges, ray_range
from ..render.types import Rays
from .batches import Batch

if TYPE_CHECKING:
    from .trainer import Objective, Trainer

PATIENCE = 4
"""Steps in a row that want the same number of rays before a graph is recorded."""
KEPT = 4
"""Graphs kept, the latest used."""
ROOM = 16
"""Marched samples there is room for, per sample that a step aims to evaluate."""


def why_not(trainer: Trainer) -> str | None:
    """Why this trainer's next step cannot be recorded, or None."""
    from .trainer import Trainer as Plain

    field = trainer.field
    ops = kernels.ops(field.device)
    if not hasattr(ops, "ready"):
        return "the kernels in use ask the device for sizes"
    if type(trainer) is not Plain or trainer.pruner is not None:
        return "this is no plain training"
    if field.background is not None or field.regularization(trainer.budget.step) is not None:
        return "the loss has terms besides the picture"
    lowered = field.lower()
    if lowered is None:
        return f"{field.family} has no fused form"
    reason: str | None = ops.supports(lowered)
    return reason


def rounded(rays: int) -> int:
    """The number of rays of a recorded step: at most ``rays``, at least 64."""
    step = math.floor(4.0 * math.log2(max(rays, 64))) / 4.0
    return max(64, int(2.0**step) // 64 * 64)


class StaticStep:
    """One training step of a fixed number of rays, over buffers that stay where they are."""

    def __init__(self, trainer: Trainer, rays: int, room: int) -> None:
        field, device = trainer.field, trainer.field.device
        lowered = field.lower()
        assert lowered is not None
        self.trainer, self.lowered, self.rays, self.room = trainer, lowered, rays, room
        self.origins, self.directions, self.colors, self.background = (torch.zeros(rays, 3, device=device) for _ in range(4))
        self.near, self.far, self.jitter, self.alpha = (torch.zeros(rays, device=device) for _ in range(4))
        self.has_alpha = False
        self.needed = torch.zeros(1, dtype=torch.int64, device=device)
        self.facts = torch.zeros(3, dtype=torch.float64, device=device)  # asked for all at once: loss, samples evaluated, samples needed
        self.edges = lattice_edges(field.space, trainer.settings, device)
        self.members = [(name, p, sparse) for _, sparse, group in trainer.optimizer.groups for name, p in group]
        self.rates = torch.zeros(len(self.members), 2, device=device)
        self.graph: Any = None

    def fill(self, batch: Batch, background: Tensor, factor: float, generator: torch.Generator) -> None:
        """Put a batch and this step's learning rates where the step reads them."""
        field, trainer = self.trainer.field, self.trainer
        ops = kernels.ops(field.device)
        near, far = ray_range(field.space, batch.rays, trainer.settings, ops)
        self.origins.copy_(batch.rays.origins)
        self.directions.copy_(batch.rays.directions)
        self.near.copy_(near)
        self.far.copy_(far)
        self.jitter.copy_(torch.rand(self.rays, generator=generator))
        self.background.copy_(background.expand(self.rays, 3))
        self.colors.copy_(batch.rgb)
        self.has_alpha = batch.alpha is not None  # of every batch of a run alike
        if batch.alpha is not None:
            self.alpha.copy_(batch.alpha)
        self.rates.copy_(torch.tensor(trainer.optimizer.next_rates(factor)))
        ops.ready(self.lowered, field.occupancy.bits)

    def body(self) -> None:
        """What is recorded."""
        field, settings = self.trainer.field, self.trainer.settings
        ops = kernels.ops(field.device)
        with kernels.gradients_in_place():
            out = ops.render_rays(
                *(self.lowered, field.occupancy.bits, self.origins, self.directions, self.near, self.far, self.jitter, self.edges),
                *(field.space.scale, settings.termination),
                capacity=self.room,
                needed=self.needed,
            )
        rgb = out.rgb + (1.0 - out.opacity)[:, None] * self.background
        batch = Batch(Rays(self.origins, self.directions), self.colors, self.alpha if self.has_alpha else None)
        loss = self.trainer.picture_error(rgb, out.opacity, batch, self.background)
        loss.backward()  # type: ignore[no-untyped-call]
        self.trainer.optimizer.static_step(self.rates)
        self.facts[0].copy_(loss.detach())
        self.facts[1].copy_(out.cost.sum())
        self.facts[2].copy_(self.needed[0])

    def run(self) -> None:
        """The step, from the graph where one was recorded."""
        if self.graph is None:
            self.body()
        else:
            self.graph.replay()

    def record(self) -> None:
        """Record the graph; the field and the optimiser are afterwards as before."""
        ops, optimizer = kernels.ops(self.trainer.field.device), self.trainer.optimizer
        changed = [t for name, p, _ in self.members for t in (p.data, optimizer.first[name], optimizer.second[name])]
        before = [t.clone() for t in changed]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(side):
                for _ in range(2):  # compiles the kernels, and makes the gradients that later steps add to
                    self.body()
        finally:
            torch.cuda.current_stream().wait_stream(side)
            with torch.no_grad():
                for tensor, old in zip(changed, before, strict=True):
                    tensor.copy_(old)
            del before
        ops.forget(self.lowered)
        ops.ready(self.lowered, self.trainer.field.occupancy.bits)
        graph = torch.cuda.CUDAGraph()
        # What other threads do on the GPU meanwhile, a viewer's pictures, neither belongs to the graph nor spoils it.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.body()
        self.graph = graph


class GraphedSteps:
    """Does a trainer's steps by graphs where it can.

    ``record`` False does the same steps over the same buffers without recording them.
    """

    def __init__(self, trainer: Trainer, record: bool = True) -> None:
        self.trainer, self.record = trainer, record
        self.room = ROOM * trainer.recipe.samples_at(1.0)
        self.steps: dict[int, StaticStep] = {}
        self.wanted, self.times = 0, 0
        self.usable: bool | None = None
        self.failed = False

    def forget(self) -> None:
        """The field's parameters or its space have changed."""
        self.steps.clear()
        self.usable = None

    def _record(self, static: StaticStep) -> bool:
        """Record, or give recording up: a step is then launched piece by piece, which needs less memory, too."""
        try:
            static.record()
        except Exception as error:  # PyTorch's and Triton's have no common class
            kernels.ops(self.trainer.field.device).forget(static.lowered)
            self.trainer.optimizer.take_back()
            for _, parameter, _ in static.members:
                parameter.grad = None
            self.steps.clear()
            self.usable, self.failed = False, True
            torch.cuda.empty_cache()
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            progress_output.warn(f"training steps cannot be recorded as CUDA graphs ({reason[0]}); they are launched piece by piece")
        return static.graph is not None

    def step(self, progress: float) -> Objective | None:
        """One whole step, the update included; None where it has to be done the other way."""
        from .trainer import Objective

        trainer = self.trainer
        if self.usable is None:
            self.usable = not self.failed and why_not(trainer) is None
        if not self.usable:
            return None
        rays = rounded(trainer.rays)
        self.times = self.times + 1 if rays == self.wanted else 1
        self.wanted = rays
        if rays not in self.steps and self.times < PATIENCE:
            return None
        static = self.steps.pop(rays, None) or StaticStep(trainer, rays, self.room)
        self.steps[rays] = static
        while len(self.steps) > KEPT:
            del self.steps[next(iter(self.steps))]
        batch = trainer.next_batch(rays, progress)
        background = trainer.behind(batch)
        static.fill(batch, background, trainer.rate_factor(progress), trainer.generator)
        if self.record and static.graph is None and not self._record(static):
            return None
        static.run()
        loss, samples, needed = static.facts.tolist()
        if needed > self.room:  # samples of the last rays were left out: more room from now on
            self.room = int(1.5 * needed)
            self.forget()
        return Objective(torch.tensor(loss), torch.tensor(loss), rays, int(samples))
