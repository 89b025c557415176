"""From a field to its packed file: prune, search, train on, search again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .. import progress
from ..render.renderer import which_renderer
from ..representations.field import Field
from ..representations.voxels import VoxelField
from ..training.budget import Budget
from ..training.evaluation import eval_settings
from ..training.metrics import mse_to_psnr
from ..training.trainer import BatchSource, Pruner, StepStats, Trainer
from .finetune import RATE, finetune, hollowed
from .hollow import HollowPruner
from .prune import drop_unreached, drop_unseen
from .quantize import Plan
from .search import START, TRIES, Candidate, Goal, Packer, Probe, search
from .sensitivity import sensitivities

ROUNDS, ROUND_RAYS, SLOW_ROUND_RAYS = 16, 1 << 12, 1 << 8
"""Of sensitivities; fewer rays without compiled kernels, where every ray sees every weight of a network."""
SALIENCY_SIDE = 64
"""HollowNeRF's."""
PRUNING_RATE = 0.3
"""Learning rate while an existing field is pruned, as a share of its family's: logits must travel far."""


@dataclass(frozen=True)
class PackOptions:
    """How to pack a field."""

    goal: Goal
    keep: float | None = None
    """Prune first: a hash grid to this share of its saliency grid, voxels to this share of the lattice's vertices."""
    seconds: float = 0.0
    """Train on for so long: half of it while pruning, if there is pruning, the rest with quantised numbers."""
    steps: int | None = None
    """The same as optimisation steps, in place of ``seconds``."""
    seed: int = 0

    @property
    def trains(self) -> bool:
        """Whether the field is trained on, which needs batches."""
        return bool(self.seconds if self.steps is None else self.steps)

    def budget(self) -> Budget:
        """Of one of the stages of training on."""
        share = 1.0 if self.keep is None else 0.5
        return Budget(seconds=share * self.seconds) if self.steps is None else Budget(steps=max(1, int(share * self.steps)))


@dataclass(frozen=True)
class Report:
    """How far packing has come."""

    stage: str
    """prune, sensitivity, search or train rounded."""
    done: float
    """Of ``total``."""
    total: float
    unit: str
    """What is counted: rounds, tries, steps."""
    count: float | None = None
    """So many of them, where that is not ``done``."""
    facts: Mapping[str, float | str] = field(default_factory=dict)


Follow = Callable[[Report], None]
"""Hears how packing goes, at least every few seconds. Whatever it raises ends the packing; nothing is written then."""


@dataclass(frozen=True)
class Packed:
    """A written file and what it cost."""

    found: Candidate
    size: int
    """Bytes of the file."""
    parameters: int
    """Learned numbers of the field that was given."""
    field: Field
    """As the file holds it."""


def pack_field(
    field: Field, path: Path, probe: Probe, options: PackOptions, batches: BatchSource | None = None, follow: Follow | None = None
) -> Packed:
    """Write ``field`` packed to ``path``. The given field is changed by pruning and training.

    Args:
        batches: what to train on; needed where ``options.trains``.

    Raises:
        UserError: pruning is asked for and the field is neither a hash grid nor voxels; the file cannot be written.
        ValueError: there is nothing to train on.
    """
    if options.trains and batches is None:
        raise ValueError("training on needs batches")
    tell = follow or (lambda report: None)
    numbers = sum(p.numel() for p in field.parameters())  # a mask's bits are no float32 numbers in any file
    settings = eval_settings(field)

    def measure(subject: Field) -> dict[str, Tensor]:
        def heard(done: int) -> None:
            tell(Report("sensitivity", done, ROUNDS, "rounds"))

        rays = ROUND_RAYS if which_renderer(subject) == "fused" else SLOW_ROUND_RAYS
        return sensitivities(subject, settings, rounds=ROUNDS, rays=rays, seed=options.seed, on_round=heard)

    def look(packer: Packer, start: float, tries: int) -> Candidate:
        done = 0

        def heard(candidate: Candidate) -> None:
            nonlocal done
            done += 1
            tell(Report("search", done, tries, "tries", None, {"size": progress.format_bytes(candidate.size), "drop": candidate.drop}))

        return search(packer.try_step, options.goal, start=start, tries=tries, on_try=heard)

    if options.keep is not None and isinstance(field, VoxelField):
        gone = drop_unseen(field, options.keep, measure(field))
        if options.trains:
            _train(field, batches, options, "prune", tell)
        progress.say(f"dropped {gone} voxels that show least or not at all; {probe.drop(field):.2f} dB lost by pruning")
    elif options.keep is not None:
        field = hollowed(field, SALIENCY_SIDE)
        pruner = HollowPruner(options.keep)
        _train(field, batches, options, "prune", tell, rate=PRUNING_RATE, pruner=pruner)
        kept = pruner.report(field)
        progress.say(f"kept {100 * kept['vertices']:.1f} % of the saliency grid; {probe.drop(field):.2f} dB lost by pruning")
    dropped = drop_unreached(field)
    if dropped:
        progress.say(f"dropped {dropped} voxels that no occupied cell reaches")
    field.metadata["history"] = [*field.metadata.get("history", []), "packed"]  # before the search: its files must be as long
    packer = Packer(field, probe, path.absolute().parent, measure)
    first = look(packer, START, 3)
    packer.refine(first.step)
    if options.trains:
        first = look(packer, first.step, 3)
        logits = field.get_parameter("encoder.saliency") if "encoder.saliency" in packer.plan else None
        if logits is not None:
            logits.requires_grad_(False)  # what has been shut stays shut
        _train(field, batches, options, "train rounded", tell, rounded=(packer.plan, first.step))
        if logits is not None:
            logits.requires_grad_(True)
    best = look(packer, first.step, TRIES)
    written = packer.pack(best.step, path)
    return Packed(best, path.stat().st_size, numbers, written)


def _train(
    field: Field,
    batches: BatchSource | None,
    options: PackOptions,
    stage: str,
    tell: Follow,
    *,
    rate: float = RATE,
    rounded: tuple[Plan, float] | None = None,
    pruner: Pruner | None = None,
) -> None:
    assert batches is not None
    smooth = 0.0

    def heard(trainer: Trainer, stats: StepStats) -> None:
        nonlocal smooth
        smooth = stats.mse if smooth == 0.0 else 0.95 * smooth + 0.05 * stats.mse
        tell(Report(stage, stats.progress, 1.0, "steps", stats.step, {"psnr": mse_to_psnr(smooth)}))

    finetune(field, batches, options.budget(), rate=rate, rounded=rounded, pruner=pruner, seed=options.seed, on_step=heard)
