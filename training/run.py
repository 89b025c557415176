"""From a scene and options to a run folder with a trained field."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .. import kernels, progress
from ..datasets.scene import Scene
from ..errors import UserError
from ..representations.field import Field
from ..representations.field_file import Precision, load_field, save_field
from ..representations.mixed import MixedField
from ..representations.registry import build, get_family
from .batches import PhotoBatches
from .budget import Budget
from .callbacks import Checkpoints, HeldOutView, MetricsLog
from .checkpoint import Snapshot, checkpoints, load_checkpoint
from .evaluation import eval_settings
from .hull import visual_hull
from .mixed import MixedTrainer
from .options import TrainOptions
from .recipes import recipe_for
from .trainer import Callback, Pruner, RandomBackground, Trainer
from .video import VideoBatches, views_of

FIELD_NAME = "field.field"
CONFIG_NAME = "config.yaml"


@dataclass(frozen=True)
class TrainResult:
    field: Field
    path: Path
    """The saved field file."""
    step: int
    seconds: float
    """Seconds of training."""
    finished: bool
    """False where the run was interrupted; resuming continues it."""


def resolve_device(name: str) -> torch.device:
    """auto, cpu, cuda, … to a device that works.

    Raises:
        UserError: the device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|(cuda|mps|xpu)(:\d{1,3})?", name):
        raise UserError(f"--device {name or '(nothing)'}: there is no such device; choose auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            built = torch.version.cuda is not None or torch.version.hip is not None
            reason = "PyTorch sees no NVIDIA GPU" if built else "this PyTorch is built without CUDA; install its build for GPUs"
            raise UserError(f"--device {name} cannot be used here: {reason}, or use --device auto")
        if device.index is not None and device.index >= count:
            raise UserError(f"--device {name} cannot be used here: the last GPU is cuda:{count - 1}")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if device.type == "cuda" else "PyTorch sees no such device"
        raise UserError(f"--device {name} cannot be used here: {reason}; use --device auto") from error
    return device


def write_config(run: Path, scene_path: Path, options: TrainOptions) -> None:
    (run / CONFIG_NAME).write_text(yaml.safe_dump({"data": str(scene_path), **asdict(options)}, sort_keys=False))


def read_config(run: Path) -> tuple[Path, TrainOptions]:
    """Dataset path and options a run was started with.

    Raises:
        UserError: the folder is no run, or its config was mangled.
    """
    values = config_values(run)
    try:
        return Path(values.pop("data")), TrainOptions(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise bad_config(run, error) from error


def config_values(run: Path) -> dict[str, Any]:
    """What a run's config file says.

    Raises:
        UserError: the folder is no run, or the file is no list of settings.
    """
    path = run / CONFIG_NAME
    try:
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it is no list of settings")
        return values
    except FileNotFoundError as error:
        raise UserError(f"{run} is not a run folder: it has no {CONFIG_NAME}") from error
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise bad_config(run, error) from error


def bad_config(run: Path, error: Exception) -> UserError:
    return UserError(f"{run / CONFIG_NAME} cannot be read ({error}); start the run again with --overwrite")


def background_source(options: TrainOptions, scene: Scene, field: Field) -> Callable[[int, torch.Generator], Tensor]:
    """What a training ray sees behind the scene."""
    mode = options.background
    if mode == "auto":
        mode = "random" if scene.has_alpha else "black"
    device = field.device
    if mode == "random":
        return RandomBackground(device)
    if mode == "learned":
        color = field.background
        assert color is not None
        return lambda n, generator: torch.sigmoid(color)
    grey = torch.full((3,), 1.0 if mode == "white" else 0.0, device=device)
    return lambda n, generator: grey


def new_field(scene: Scene, options: TrainOptions, device: torch.device) -> Field:
    """A fresh field that carries what later verbs need from the scene: cameras, background, near, history."""
    field = build(options.field, scene_options(scene, options), scene.space, options.seed)
    if options.warm is not None:
        if not isinstance(field, MixedField):
            raise UserError(f"--warm is for mixed fields, not for {options.field}; leave it out")
        field.warm_start(load_run_or_field(Path(options.warm)))
    if options.background == "learned":
        field.add_background()
    train = [scene.cameras[i].to_dict() for i in scene.split["train"]]
    field.metadata.update(
        cameras=train,
        background="learned" if options.background == "learned" else ("white" if scene.has_alpha else "black"),
        near=scene.near * scene.space.scale,
        fingerprint=scene.fingerprint,
        color_space="sRGB",
        history=[f"{options.field} trained on {scene.name}"],
    )
    if scene.has_alpha and not scene.space.unbounded:
        field.occupancy.restrict(visual_hull(scene, "train", scene.space, field.occupancy.resolution))
    return field.to(device)


def scene_options(scene: Scene, options: TrainOptions) -> dict[str, Any]:
    """The family's options with what only the scene knows: how many frames a moving one has.

    Raises:
        UserError: the family and the scene do not fit together.
    """
    if not get_family(options.field).field.dynamic:
        return options.family_options
    if options.background == "learned":
        raise UserError("a mixed field learns no background; choose --background black, white or auto")
    frames = len(views_of(scene)[0])
    if int(options.family_options.get("frames", frames)) != frames:
        raise UserError(f"the clip has {frames} frames, so --set frames={options.family_options['frames']} cannot be; leave it out")
    return {**options.family_options, "frames": frames}


@contextmanager
def _interrupt_stops(trainer: Trainer) -> Iterator[None]:
    """First Ctrl-C: finish the step and save. Second: stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(signum: int, frame: Any) -> None:
        if trainer.stop:
            raise KeyboardInterrupt
        trainer.stop = True

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def train(
    scene: Scene,
    options: TrainOptions,
    out: Path,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    precision: Precision = "float16",
    pruner: Pruner | None = None,
) -> TrainResult:
    """Train a field on a scene's training images into the run folder ``out``.

    With ``resume`` the newest checkpoint in ``out`` continues as if it had never stopped; a
    run that has none starts from the beginning.  An interrupted run saves and returns
    with ``finished`` False.

    Raises:
        UserError: bad options or input, unwritable folder, divergence.
    """
    device = resolve_device(options.device)
    recipe = recipe_for(options.field).with_overrides(rate=options.rate, samples=options.samples)
    budget = Budget(options.steps, options.seconds)
    torch.manual_seed(options.seed)
    snapshot = start_run(out, resume, device)
    field = snapshot.field if snapshot else new_field(scene, options, device)
    behind = background_source(options, scene, field)
    shared = (recipe, budget, eval_settings(field, scene), behind, options.seed + 1)
    if field.dynamic:
        trainer: Trainer = MixedTrainer(field, VideoBatches(scene, device), *shared)
    else:
        trainer = Trainer(field, PhotoBatches(scene, "train", device), *shared, pruner)
    if snapshot:
        trainer.load_state(snapshot.tensors, snapshot.facts)
    write_config(out, scene.root, options)
    with run_log(out, trainer) as log:
        watchers = held_out_view(out, scene, options.view_seconds, log)
        return run_to_end(
            trainer, out, log, Checkpoints(out, options.checkpoint_seconds, options.checkpoint_steps), watchers, callbacks, precision
        )


def start_run(out: Path, resume: bool, device: torch.device) -> Snapshot | None:
    """Make the run folder; what to continue from, or None at a fresh start.

    Raises:
        UserError: it holds a checkpoint and is not to be resumed, or none of its checkpoints can be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        return load_checkpoint(out, device)
    for stale in checkpoints(out):
        raise UserError(f"{out} holds a checkpoint ({stale.name}); continue it with --resume or start again with --overwrite")
    return None


@contextmanager
def run_log(out: Path, trainer: Trainer) -> Iterator[MetricsLog]:
    log = MetricsLog(out, trainer.budget.step)
    try:
        yield log
    finally:
        log.close()


def held_out_view(out: Path, scene: Scene | None, seconds: float, log: MetricsLog) -> list[Callback]:
    """What renders a held-out view now and then, where there is one and it is wanted."""
    split = None if scene is None else next((s for s in ("val", "test") if scene.split.get(s)), None)
    return [HeldOutView(out, scene, split, seconds, log)] if scene is not None and split and seconds > 0 else []


def warm_kernels(field: Field, *, points: bool = False) -> None:
    """Compile what training ``field`` needs (``points``: at points, too), or load it from the cache; says so where that takes time."""
    start = getattr(kernels.ops(field.device), "warm_up", None)  # only compiled kernels have one
    if start is not None:
        start([field.lower() or field.family], background=False, message=progress.say, points=points)


def run_to_end(
    trainer: Trainer,
    out: Path,
    log: MetricsLog,
    saver: Checkpoints,
    watchers: Sequence[Callback],
    callbacks: Sequence[Callback],
    precision: Precision,
) -> TrainResult:
    """Step until the budget is spent or Ctrl-C; then save a checkpoint and the field. Kernels are ready before the clock runs."""
    warm_kernels(trainer.field, points=trainer.at_points)
    with _interrupt_stops(trainer):
        trainer.run([log, saver, *watchers, *callbacks])
    saver.save(trainer)
    path = out / FIELD_NAME
    save_field(trainer.field, path, precision=precision)
    return TrainResult(trainer.field, path, trainer.budget.step, trainer.budget.elapsed, trainer.budget.done)


def load_run_or_field(path: Path, device: str = "cpu") -> Field:
    """A field from its file, or from a run folder (its saved field, else its newest checkpoint).

    Raises:
        UserError: there is neither, or it cannot be read.
    """
    if path.is_dir():
        if (path / FIELD_NAME).exists():
            return load_field(path / FIELD_NAME, device=device)
        snapshot = load_checkpoint(path, torch.device(device))
        if snapshot is None:
            raise UserError(f"{path} holds neither a {FIELD_NAME} nor a checkpoint; train into it first")
        return snapshot.field
    if not path.exists():
        raise UserError(f"{path} does not exist; give a field file or a run folder")
    return load_field(path, device=device)
