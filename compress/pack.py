"""From a field to its packed file: prune, search, train on, search again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .. import progress
from ..representations.field import Field
from ..training.budget import Budget
from ..training.evaluation import eval_settings
from ..training.metrics import mse_to_psnr
from ..training.trainer import BatchSource, Pruner, StepStats, Trainer
from .finetune import RATE, finetune, hollowed
from .hollow import HollowPruner
from .prune import drop_unreached
from .quantize import Plan
from .search import TRIES, Candidate, Goal, Packer, Probe, search
from .sensitivity import sensitivities

ROUNDS, ROUND_RAYS = 16, 1 << 12
SALIENCY_SIDE = 64
"""HollowNeRF's."""
PRUNING_RATE = 0.3
"""Learning rate while an existing field is pruned, as a share of its family's: logits must travel far."""


@dataclass(frozen=True)
class PackOptions:
    """How to pack a field."""

    goal: Goal
    keep: float | None = None
    """Prune a hash grid to this share of its saliency grid first."""
    seconds: float = 0.0
    """Train on for so long: half of it while pruning, if there is pruning, the rest with quantised numbers."""
    seed: int = 0


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


def pack_field(field: Field, path: Path, probe: Probe, options: PackOptions, batches: BatchSource | None = None) -> Packed:
    """Write ``field`` packed to ``path``. The given field is changed by pruning and training.

    Args:
        batches: what to train on; needed where ``options.seconds`` is not 0.

    Raises:
        UserError: pruning is asked for and the field is no hash grid; the file cannot be written.
    """
    numbers = sum(p.numel() for p in field.parameters())
    settings = eval_settings(field)
    seconds = options.seconds

    def measure(subject: Field) -> dict[str, Tensor]:
        with progress.Bar("sensitivity", ROUNDS, "rounds") as bar:
            return sensitivities(subject, settings, rounds=ROUNDS, rays=ROUND_RAYS, seed=options.seed, on_round=bar.update)

    def look(packer: Packer, start: float | None, tries: int) -> Candidate:
        with progress.Bar("search", tries, "tries") as bar:

            def follow(candidate: Candidate) -> None:
                bar.advance(size=progress.format_bytes(candidate.size), drop=round(candidate.drop, 3))

            if start is None:
                return search(packer.try_step, options.goal, tries=tries, on_try=follow)
            return search(packer.try_step, options.goal, start=start, tries=tries, on_try=follow)

    if options.keep is not None:
        field = hollowed(field, SALIENCY_SIDE)
        pruner = HollowPruner(options.keep)
        seconds *= 0.5
        _train(field, batches, seconds, "prune", options.seed, rate=PRUNING_RATE, pruner=pruner)
        kept = pruner.report(field)
        progress.say(f"kept {100 * kept['vertices']:.1f} % of the saliency grid; {probe.drop(field):.2f} dB lost by pruning")
    dropped = drop_unreached(field)
    if dropped:
        progress.say(f"dropped {dropped} voxels that no occupied cell reaches")
    packer = Packer(field, probe, path.absolute().parent, measure)
    first = look(packer, None, 3)
    packer.refine(first.step)
    if seconds > 0.0:
        first = look(packer, first.step, 3)
        logits = field.get_parameter("encoder.saliency") if "encoder.saliency" in packer.plan else None
        if logits is not None:
            logits.requires_grad_(False)  # what has been shut stays shut
        _train(field, batches, seconds, "train rounded", options.seed, rounded=(packer.plan, first.step))
        if logits is not None:
            logits.requires_grad_(True)
    best = look(packer, first.step, TRIES)
    field.metadata["history"] = [*field.metadata.get("history", []), f"packed, {best.drop:.2f} dB lost"]
    written = packer.pack(best.step, path)
    return Packed(best, path.stat().st_size, numbers, written)


def _train(
    field: Field,
    batches: BatchSource | None,
    seconds: float,
    title: str,
    seed: int,
    *,
    rate: float = RATE,
    rounded: tuple[Plan, float] | None = None,
    pruner: Pruner | None = None,
) -> None:
    if batches is None:
        raise ValueError("training on needs batches")
    smooth = 0.0
    with progress.Bar(title, 1.0, "steps") as bar:

        def follow(trainer: Trainer, stats: StepStats) -> None:
            nonlocal smooth
            smooth = stats.mse if smooth == 0.0 else 0.95 * smooth + 0.05 * stats.mse
            bar.update(stats.progress, count=stats.step, psnr=round(mse_to_psnr(smooth), 2))

        finetune(field, batches, Budget(seconds=seconds), rate=rate, rounded=rounded, pruner=pruner, seed=seed, on_step=follow)
