"""``fieldmorph train``: posed images to a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from .. import progress
from ..errors import UserError
from .options import Compute, FamilyOptions, Running, Talk, WarmUp, describe_scene, open_scene, parse_settings, start_folder, value

if TYPE_CHECKING:
    from ..datasets.scene import Scene
    from ..training import StepStats, Trainer, TrainOptions
    from ..training.trainer import Callback

RUN_FILES = ("config.yaml", "metrics.jsonl", "checkpoints", "tensorboard", "views", "*.field", "evaluation.json")
"""What a run folder holds, and --overwrite removes."""

FIXED = ("field", "seed", "background", "rate", "samples", "compress", "keep", "warm", "family_options")
"""What a run keeps from its start to its end; the rest may change when it is resumed."""

STATES = 4
"""Numbers kept per parameter: itself, its gradient, Adam's two moments."""


@dataclass(frozen=True, kw_only=True)
class Train(Running, Compute, FamilyOptions, Talk):
    """Train a field on a folder of posed images.

    The run folder receives the field (field.field), checkpoints, config.yaml, metrics.jsonl,
    TensorBoard events and now and then a picture of a held-out view. Ctrl-C saves and stops.
    """

    data: Annotated[Positional[Path | None], value("DATA")] = None
    """Folder of a dataset, or its transforms.json. May be left out with --resume."""
    field: Annotated[str | None, value("NAME", "hashgrid")] = None
    """Family of representation: hashgrid, mlp, vm, cp, voxels, hybrid, mixed."""
    background: Annotated[Literal["auto", "white", "black", "random", "learned"] | None, value("COLOUR", "auto")] = None
    """What shows behind the scene while training: white, black, random, learned; auto is random behind images with alpha."""
    warm: Annotated[str | None, value("RUN_OR_FIELD")] = None
    """mixed: a vm field of the same clip that the static branch starts from."""
    compress: Annotated[Literal["none", "hollow"] | None, value("HOW", "none")] = None
    """hollow: a hash grid learns which part of space its features are for, and the rest is pruned (HollowNeRF)."""
    keep: Annotated[float | None, value("SHARE", "0.1")] = None
    """hollow: greatest share of the box that stays."""
    view_seconds: Annotated[float | None, value("S", "30")] = None
    """Render a held-out view so often; 0 never does."""
    view: bool = False
    """Open a window that shows the field while it learns; closing it does not end the run."""

    def run(self) -> int:
        self.talk()
        if self.view:
            from ..viewer.gui import require_window

            require_window()
        self.claim()
        device = self.choose_device()
        options, data = self._options()
        warm_up = WarmUp("hollow" if options.compress == "hollow" else options.field, device)
        scene = open_scene(data)
        progress.say(f"{data}: {describe_scene(scene)}")
        from ..representations.registry import get_family

        if "frames" in scene.facts and not get_family(options.field).field.dynamic:
            progress.warn(f"the scene moves; a {options.field} field will show all of its times at once")
        warm_up.wait()
        start_folder(self.out, RUN_FILES if self.overwrite else ())
        if not self.view:
            return run_training(scene, options, self.out, resume=self.resume)
        from ..viewer.watch import watch_run

        return watch_run(
            lambda live: run_training(scene, options, self.out, resume=self.resume, callbacks=[live]), self.out.name, data, str(device)
        )

    def _options(self) -> tuple[TrainOptions, Path]:
        """What to train with, and on what: the flags, over the run's own config where it is resumed."""
        from ..representations.options import options_from
        from ..representations.registry import get_family
        from ..training import TrainOptions, read_config

        flags = {name: getattr(self, name, None) for name in TrainOptions.__dataclass_fields__}
        given: dict[str, Any] = {name: flag for name, flag in flags.items() if flag is not None}
        started = self.resume and (self.out / "config.yaml").exists()
        before, data = None, self.data
        if started:
            recorded, before = read_config(self.out)
            data = data or recorded
        if data is None:
            raise UserError("name the DATA to train on: a folder of posed images, or a transforms.json")
        family = get_family(given.get("field") or (before.field if before else TrainOptions.field))
        settings = parse_settings(self.set_, family.options)
        if self.compress == "hollow":
            settings = with_saliency(family.name, settings)
        options_from(family.options, settings)  # a value that cannot be is said before anything is read
        if settings or not before:
            given["family_options"] = settings
        if self.device == "auto" and before:
            given["device"] = before.device
        try:
            if not before:
                return TrainOptions(**given), data
            changed = [name for name in FIXED if name in given and given[name] != getattr(before, name)]
            if changed:
                name = {"family_options": "set"}.get(changed[0], changed[0])
                was = getattr(before, changed[0])
                raise UserError(f"--{name}: {self.out} was started with {was}, which a resumed run keeps; leave it out or start a new run")
            if "steps" in given or "seconds" in given:
                given = {"steps": None, "seconds": None, **given}
            return replace(before, **given), data
        except ValueError as error:
            raise UserError(str(error)) from error


def with_saliency(family: str, settings: dict[str, str]) -> dict[str, str]:
    """The settings of a field that can be hollowed: HollowNeRF's grid of 64^3 where none is asked for.

    Raises:
        UserError: the family has no saliency grid.
    """
    if family != "hashgrid":
        raise UserError(f"--compress hollow prunes hash grids; a {family} field is packed with fieldmorph compress, after training")
    return {"saliency": "64", **settings}


def memory_parts(scene: Scene, options: TrainOptions) -> dict[str, float]:
    """Bytes a run will ask for: the pixels, the field with its optimizer, one batch.

    The batch counts the activations that backpropagation keeps, estimated from the widths
    of the field's dense layers; fused kernels need less.
    """
    import torch

    from ..representations.options import options_from
    from ..representations.registry import get_family
    from ..training.recipes import recipe_for

    family = get_family(options.field)
    with torch.device("meta"):
        field = family.field(options_from(family.options, options.family_options), scene.space)
    shapes = [tuple(p.shape) for p in field.parameters()]
    widths = sum(shape[0] for shape in shapes if len(shape) == 2 and max(shape) <= 1024)
    numbers = sum(p.numel() for p in field.parameters())
    samples = recipe_for(options.field).with_overrides(options.rate, options.samples).samples_at(1.0)
    return {
        "images": float(scene.split_bytes("train")),
        "field": float(numbers * 4 * STATES + sum(b.numel() * b.element_size() for b in field.buffers())),
        "batch": float(samples * (2048 + 12 * widths)),
    }


def run_training(
    scene: Scene,
    options: TrainOptions,
    out: Path,
    *,
    resume: bool = False,
    title: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> int:
    """Train with a progress bar; says the memory budget before, and what was written after. 130 where Ctrl-C ended it."""
    from ..training import train
    from ..training.metrics import mse_to_psnr

    parts = memory_parts(scene, options)
    budget = progress.memory_budget(parts)
    progress.say(f"memory: {budget}")
    available = progress.available_memory()
    if available is not None and sum(parts.values()) > available:
        progress.warn(f"this run may need more memory than is free ({budget}); fewer --samples or smaller images help")
    smooth: dict[str, float] = {}

    def follow(trainer: Trainer, stats: StepStats) -> None:
        for name, number in (("loss", stats.loss), ("mse", stats.mse)):
            smooth[name] = number if name not in smooth else 0.95 * smooth[name] + 0.05 * number
        bar.update(stats.progress, count=stats.step, loss=smooth["loss"], psnr=round(mse_to_psnr(smooth["mse"]), 2))

    pruner = None
    if options.compress == "hollow":
        from ..compress.hollow import HollowPruner

        pruner = HollowPruner(options.keep)
    with progress.Bar(title or f"train {options.field}", 1.0, "steps") as bar:
        result = train(scene, options, out, resume=resume, callbacks=[follow, *callbacks], pruner=pruner)
    size = progress.format_bytes(result.path.stat().st_size)
    progress.say(f"wrote {result.path} ({size}) after {result.step} steps and {progress.format_seconds(result.seconds)} of training")
    if pruner is not None:
        progress.say("kept: " + ", ".join(f"{100 * share:.1f} % of {what}" for what, share in pruner.report(result.field).items()))
    if not result.finished:
        progress.say(f"interrupted; continue with: fieldmorph train --resume --out {out}")
        return 130
    return 0
