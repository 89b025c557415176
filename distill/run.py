"""From a teacher and options to a run folder with a distilled student."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from ..datasets.scene import Scene
from ..errors import UserError
from ..render.images import save_image
from ..render.overview import recorded_cameras
from ..render.renderer import render_image
from ..representations.field import Field
from ..representations.field_file import Precision
from ..representations.registry import get_family
from ..representations.space import Space
from ..training.batches import PhotoBatches
from ..training.budget import Budget
from ..training.callbacks import Checkpoints, MetricsLog
from ..training.checkpoint import Snapshot
from ..training.evaluation import eval_settings
from ..training.metrics import psnr
from ..training.options import TrainOptions
from ..training.recipes import recipe_for
from ..training.run import (
    CONFIG_NAME,
    TrainResult,
    background_source,
    bad_config,
    config_values,
    held_out_view,
    load_run_or_field,
    resolve_device,
    run_log,
    run_to_end,
    start_run,
)
from ..training.teacher import Teacher
from ..training.trainer import Callback, StepStats, Trainer
from .distiller import Distiller
from .fusion import branch_options, keep_still, parse_branches, rest_of_budget, share_block_two, with_branches
from .inherit import READ_OFF_RATE, can_be_read_off, fine_from_the_start, inherit_content, inherit_occupancy, inherit_weights, new_student
from .options import DistillOptions

READ_OFF = "read_off"
"""Metadata of a student that began as what was read off its teacher."""
BRANCHES = "branches"
"""Folder of a run for the runs of branches with teachers of their own."""
LONGEST = 256
"""Pixels along the longer side of the view that student and teacher are compared in."""


def distill_field(
    teacher: Field,
    options: DistillOptions,
    out: Path,
    *,
    scene: Scene | None = None,
    source: Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    precision: Precision = "float16",
) -> TrainResult:
    """Convert a field into another representation, into the run folder ``out``.

    Args:
        teacher: any field, on the device that ``options`` name; it is not changed.
        scene: its photographs, for a held-out view in the log and, where ``options.photographs`` asks for it, a last stage.
        source: where the teacher was read from; kept in the run's config, so that the run can be resumed by name.
        resume: continue from the newest checkpoint as if the run had never stopped.

    Raises:
        UserError: bad options or input, unwritable folder, divergence.
    """
    device = resolve_device(options.device)
    if options.photographs and scene is None:
        raise UserError("a last stage on photographs needs photographs; name a dataset with --data, or leave out --photographs")
    teacher = frozen(teacher.to(device), options)
    branches = parse_branches(options)
    start = _Start()
    snapshot = start_run(out, resume, device)
    values = {"teacher": None if source is None else str(source.absolute()), "data": None if scene is None else str(scene.root)}
    (out / CONFIG_NAME).write_text(yaml.safe_dump({**values, **_plain(asdict(options))}, sort_keys=False))
    if branches:
        learned: dict[int, Field] = {}
        for branch in branches:
            theirs = load_run_or_field(branch.source, device=str(device))
            alone = branch_options(options, branch, source is not None and branch.source.absolute() == source.absolute())
            folder = out / BRANCHES / f"{branch.place}-{branch.kind}"
            beginning = _Start(space=teacher.space, adjust=share_block_two(teacher))
            found = _learn(frozen(theirs, alone), alone, folder, beginning, start_run(folder, resume, device), None, callbacks, "float32")
            if not found.finished:
                return found
            learned[branch.place] = found.field
        still = list(learned)
        start = _Start(
            complete=lambda student: with_branches(student, learned),
            adjust=lambda student: keep_still(student, still),
            budget=rest_of_budget(options, len(branches)),
        )
    return _learn(teacher, options, out, start, snapshot, scene, callbacks, precision)


@dataclass(frozen=True)
class _Start:
    """How a student begins, beyond what it inherits from its teacher."""

    space: Space | None = None
    """Its box; None: the teacher's."""
    complete: Callable[[Field], Field] | None = None
    """Makes the student of a fresh one."""
    adjust: Callable[[Field], None] | None = None
    """Applied to the student whenever a run starts or goes on."""
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Steps and seconds, where they are not the options'."""


def _learn(
    teacher: Field,
    options: DistillOptions,
    out: Path,
    start: _Start,
    snapshot: Snapshot | None,
    scene: Scene | None,
    callbacks: Sequence[Callback],
    precision: Precision,
) -> TrainResult:
    device = teacher.device
    recipe = recipe_for(options.to).with_overrides(rate=options.rate, samples=options.samples)
    recipe = replace(recipe, growth=1.0)  # what large batches average out, noise of photographs, a teacher's rays lack
    budget = Budget(**(start.budget or {"steps": options.steps, "seconds": options.seconds}))
    torch.manual_seed(options.seed)
    asked = Teacher(teacher, steps=recipe.steps_per_diagonal, termination=recipe.termination)
    student = snapshot.field if snapshot else _beginner(teacher, options, budget, start)
    if options.rate is None and student.metadata.get(READ_OFF):
        recipe = replace(recipe, rate=READ_OFF_RATE * recipe.rate)
    if start.adjust is not None:
        start.adjust(student)
    photographs = PhotoBatches(scene, "train", device) if scene is not None and options.photographs else None
    shown = TrainOptions(background="learned" if student.background is not None else "auto")
    behind = background_source(shown, scene, student) if scene is not None else _black
    distiller = Distiller(student, asked, options, recipe, budget, eval_settings(student, scene), behind, photographs)
    if snapshot:
        distiller.load_state(snapshot.tensors, snapshot.facts)
    with run_log(out, distiller) as log:
        watchers = held_out_view(out, scene, options.view_seconds, log)
        if options.view_seconds > 0:
            watchers = [*watchers, SideBySide(out, teacher, options.view_seconds, log)]
        saver = Checkpoints(out, options.checkpoint_seconds, options.checkpoint_steps)
        return run_to_end(distiller, out, log, saver, watchers, callbacks, precision)


def _beginner(teacher: Field, options: DistillOptions, budget: Budget, start: _Start) -> Field:
    """The student as it begins; what it takes to inherit counts as learning."""
    budget.start()
    readable = options.inherit and can_be_read_off(teacher, options.to, options.family_options, options.seconds)
    given = fine_from_the_start(options.family_options) if readable else options.family_options
    student = new_student(teacher, options.to, given, options.seed, start.space)
    if options.inherit:
        inherit_weights(student, teacher)
    if start.complete is not None:
        student = start.complete(student)
    if options.inherit:
        inherit_occupancy(student, teacher)
    if readable:
        inherit_content(student, teacher)
        student.metadata[READ_OFF] = True
    budget.pause()
    return student


def frozen(teacher: Field, options: DistillOptions) -> Field:
    """The teacher at the moment that was asked for; one that stands still as it is.

    Raises:
        UserError: a moment is asked of a teacher that stands still, or none of one that moves, or the student would move.
    """
    if get_family(options.to).field.dynamic:
        raise UserError(f"a {options.to} field is trained on videos; distil into a family that stands still")
    if not teacher.dynamic:
        if options.time is not None:
            raise UserError(f"--time is for teachers that move, and this {teacher.family} field stands still; leave it out")
        return teacher
    if options.time is None:
        raise UserError(f"the teacher moves ({teacher.family}); name the moment to freeze it at with --time, from 0 to 1")
    return teacher.at(options.time)


def read_distill_config(run: Path) -> tuple[Path, Path | None, DistillOptions]:
    """Teacher, dataset and options a distillation was started with.

    Raises:
        UserError: the folder is no such run, or its config was mangled.
    """
    values = config_values(run)
    if "teacher" not in values:
        raise UserError(f"{run} is a training run, not a distillation; continue it with: fieldmorph train --resume --out {run}")
    try:
        teacher, data = values.pop("teacher"), values.pop("data")
        values["stage_rates"], values["branch"] = tuple(values["stage_rates"]), tuple(values.get("branch", ()))
        return Path(teacher), None if data is None else Path(data), DistillOptions(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise bad_config(run, error) from error


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML that any reader understands."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _black(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.zeros(3)


class SideBySide:
    """Teacher and student in one view now and then: a picture in ``views/``, their PSNR in the log."""

    def __init__(self, run: Path, teacher: Field, seconds: float, log: MetricsLog) -> None:
        self.folder, self.seconds, self.log = run / "views", seconds, log
        cameras = recorded_cameras(teacher) or Teacher(teacher).poses.cameras
        camera = cameras[len(cameras) // 2]
        shrink = max(1, -(-max(camera.width, camera.height) // LONGEST))
        self.camera = camera.resized(max(1, camera.width // shrink), max(1, camera.height // shrink))
        self.goal = render_image(teacher, self.camera, eval_settings(teacher)).rgb.clamp(0, 1).cpu()
        self._last = 0.0

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        now = trainer.budget.elapsed
        if now - self._last < self.seconds and not trainer.budget.done:
            return
        self._last = now
        start = time.perf_counter()
        image = render_image(trainer.field, self.camera, eval_settings(trainer.field)).rgb.clamp(0, 1).cpu()
        self.folder.mkdir(exist_ok=True)
        save_image(self.folder / f"teacher-student-{stats.step:08d}.png", torch.cat([self.goal, image], 1))
        seconds = round(now, 3)
        row = {
            "step": stats.step,
            "seconds": seconds,
            "agreement_psnr": psnr(image, self.goal),
            "view_seconds": time.perf_counter() - start,
        }
        self.log.write(row)
