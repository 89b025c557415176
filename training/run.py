"""From a scene and options to a run folder with a trained field."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from ..datasets.scene import Scene
from ..errors import UserError
from ..representations.field import Field
from ..representations.field_file import load_field, save_field
from ..representations.registry import build
from .batches import PhotoBatches
from .budget import Budget
from .callbacks import Checkpoints, HeldOutView, MetricsLog
from .checkpoint import checkpoints, load_checkpoint
from .evaluation import eval_settings
from .hull import visual_hull
from .options import TrainOptions
from .recipes import recipe_for
from .trainer import Callback, Pruner, Trainer

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
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name} cannot be used here ({str(error).splitlines()[0]}); use --device auto") from error
    return device


def write_config(run: Path, scene_path: Path, options: TrainOptions) -> None:
    (run / CONFIG_NAME).write_text(yaml.safe_dump({"data": str(scene_path), **asdict(options)}, sort_keys=False))


def read_config(run: Path) -> tuple[Path, TrainOptions]:
    """Dataset path and options a run was started with.

    Raises:
        UserError: the folder is no run, or its config was mangled.
    """
    path = run / CONFIG_NAME
    try:
        values = yaml.safe_load(path.read_text())
        data = Path(values.pop("data"))
        return data, TrainOptions(**values)
    except FileNotFoundError as error:
        raise UserError(f"{run} is not a run folder: it has no {CONFIG_NAME}") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); start the run again with --overwrite") from error


def background_source(options: TrainOptions, scene: Scene, field: Field) -> Callable[[int, torch.Generator], Tensor]:
    """What a training ray sees behind the scene."""
    mode = options.background
    if mode == "auto":
        mode = "random" if scene.has_alpha else "black"
    device = field.device
    if mode == "random":
        return lambda n, generator: torch.rand(n, 3, generator=generator).to(device)
    if mode == "learned":
        color = field.background
        assert color is not None
        return lambda n, generator: torch.sigmoid(color)
    grey = torch.full((3,), 1.0 if mode == "white" else 0.0, device=device)
    return lambda n, generator: grey


def new_field(scene: Scene, options: TrainOptions, device: torch.device) -> Field:
    """A fresh field that carries what later verbs need from the scene: cameras, background, near, history."""
    field = build(options.field, options.family_options, scene.space, options.seed)
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
    precision: Literal["float32", "float16"] = "float16",
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
    out.mkdir(parents=True, exist_ok=True)
    recipe = recipe_for(options.field).with_overrides(rate=options.rate, samples=options.samples)
    budget = Budget(options.steps, options.seconds)
    torch.manual_seed(options.seed)
    snapshot = load_checkpoint(out, device) if resume else None
    field = snapshot.field if snapshot else new_field(scene, options, device)
    batches = PhotoBatches(scene, "train", device)
    behind = background_source(options, scene, field)
    trainer = Trainer(field, batches, recipe, budget, eval_settings(field, scene), behind, options.seed + 1, pruner)
    if snapshot:
        trainer.load_state(snapshot.tensors, snapshot.facts)
    else:
        for stale in checkpoints(out):
            raise UserError(f"{out} holds a checkpoint ({stale.name}); continue it with --resume or start again with --overwrite")
    write_config(out, scene.root, options)
    log = MetricsLog(out, budget.step)
    saver = Checkpoints(out, options.checkpoint_seconds, options.checkpoint_steps)
    watchers: list[Callback] = [log, saver]
    split = next((s for s in ("val", "test") if scene.split.get(s)), None)
    if options.view_seconds > 0 and split:
        watchers.append(HeldOutView(out, scene, split, options.view_seconds, log))
    try:
        with _interrupt_stops(trainer):
            trainer.run([*watchers, *callbacks])
        saver.save(trainer)
    finally:
        log.close()
    path = out / FIELD_NAME
    save_field(field, path, precision=precision)
    return TrainResult(field, path, budget.step, budget.elapsed, budget.done)


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
