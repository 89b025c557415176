"""``fieldmorph reproduce NAME``: experiments of the papers, one command each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction

from .. import progress
from ..errors import UserError
from .options import Compute, Talk, WarmUp, claim_folder, describe_scene, open_scene, start_folder, value

if TYPE_CHECKING:
    from ..benchmarks.distillation import Experiment
    from ..training import StepStats, Trainer, TrainResult
    from ..training.trainer import Callback

EXPERIMENT_FILES = ("results.json", "report.md", "*.png", "teachers", "students", "scratch", "fields")
"""What an experiment writes, and --overwrite removes."""


@dataclass(frozen=True, kw_only=True)
class Reproduce(Compute, Talk):
    """What the experiments share. Each part is kept as soon as it is measured; --resume goes on with the first one missing."""

    data: Annotated[Path, value("DATA")]
    """Dataset: a folder of posed images with test images."""
    out: Annotated[Path, value("FOLDER")]
    """Folder for results.json, report.md, plots and the fields."""
    views: Annotated[int, value("N", "25")] = 25
    """Test views that score every field."""
    seed: Annotated[int, value("K", "0")] = 0
    """Seed of all that is random."""
    resume: bool = False
    """Go on with what --out holds."""
    overwrite: bool = False
    """Replace the experiment that --out holds."""

    def start(self) -> Experiment:
        """Check what was asked for and open the experiment.

        Raises:
            UserError: a flag, the dataset or the folder cannot be used.
        """
        self.talk()
        if self.views < 1:
            raise UserError(f"--views {self.views}: score at least one view")
        claim_folder(self.out, overwrite=self.overwrite, resume=self.resume)
        device = self.choose_device()
        from ..benchmarks.distillation import Experiment

        scene = open_scene(self.data)
        if not scene.split.get("test") or not scene.split.get("train"):
            raise UserError(f"{self.data}: an experiment needs train and test images; choose another --data")
        progress.say(f"{self.data}: {describe_scene(scene)}")
        start_folder(self.out, EXPERIMENT_FILES if self.overwrite else ())
        return Experiment(self.out, scene, watch, device=str(device), seed=self.seed, views=self.views)

    def warm_up(self, experiment: Experiment, families: tuple[str, ...], *, points: bool = False) -> None:
        """Compile before anything is timed; ``points``: what distillation needs, too."""
        import torch

        for family in dict.fromkeys(families):
            WarmUp(family, torch.device(experiment.device), points=points).wait()


def watch(title: str, work: Callable[[Callback], TrainResult]) -> TrainResult:
    """Run a part under a progress bar."""
    from ..training.metrics import mse_to_psnr

    with progress.Bar(title, 1.0, "steps") as bar:

        def follow(trainer: Trainer, stats: StepStats) -> None:
            bar.update(stats.progress, count=stats.step, stage=stats.stage or None, psnr=round(mse_to_psnr(stats.mse), 1))

        return work(follow)


def positive(name: str, number: float) -> None:
    if not 0 < number < 1e6:
        raise UserError(f"--{name} {number}: give a positive number")


@dataclass(frozen=True, kw_only=True)
class AnyToAny(Reproduce):
    """Distil every family into every other on one scene (PVD, section 4): PSNR and time, and what each mechanism is worth.

    Trains one teacher per family, then distils each pair without photographs.
    """

    teacher: Annotated[tuple[str, ...], value("NAME", "all"), UseAppendAction] = ()
    """A family that teaches; may be given several times."""
    student: Annotated[tuple[str, ...], value("NAME", "all"), UseAppendAction] = ()
    """A family that learns; may be given several times."""
    seconds: Annotated[float, value("S", "60")] = 60.0
    """Seconds of each distillation."""
    teacher_seconds: Annotated[float, value("S", "120")] = 120.0
    """Seconds of training of each teacher."""
    ablate: Annotated[tuple[str, ...], value("A:B"), UseAppendAction] = ()
    """A pair, for example hashgrid:vm, that is also distilled with each mechanism left out; may be given several times."""

    def run(self) -> int:
        from ..representations.registry import get_family, still_families

        positive("seconds", self.seconds)
        positive("teacher-seconds", self.teacher_seconds)
        teachers, students = self.teacher or tuple(still_families()), self.student or tuple(still_families())
        pairs = []
        for text in self.ablate:
            a, colon, b = text.partition(":")
            if not colon:
                raise UserError(f"--ablate {text}: write TEACHER:STUDENT, for example hashgrid:vm")
            pairs.append((a, b))
        named = (*teachers, *students, *(family for pair in pairs for family in pair))
        for family in named:
            get_family(family)
        experiment = self.start()
        self.warm_up(experiment, named, points=True)
        from ..benchmarks.distillation import any_to_any

        path = any_to_any(experiment, teachers, students, teacher_seconds=self.teacher_seconds, seconds=self.seconds, ablate=pairs)
        progress.say(path.read_text())
        progress.say(f"wrote {path}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Dynamic(Reproduce):
    """A mixed field of a clip against one whose voxels all move, and against a static field per frame (MixVoxels, section 5)."""

    seconds: Annotated[float, value("S", "1200")] = 1200.0
    """Seconds of training of the mixed field, and of the one whose voxels all move."""
    frame_seconds: Annotated[float, value("S", "200")] = 200.0
    """Seconds of training of each static field."""
    alone: Annotated[int, value("N", "6")] = 6
    """Frames that get a static field of their own; the time of all is extrapolated."""
    family: Annotated[str, value("NAME", "vm")] = "vm"
    """Family of the static fields."""

    def run(self) -> int:
        from ..representations.registry import still_families

        positive("seconds", self.seconds)
        positive("frame-seconds", self.frame_seconds)
        if self.alone < 1:
            raise UserError(f"--alone {self.alone}: train at least one frame by itself")
        if self.family not in still_families():
            raise UserError(f"--family {self.family}: choose one of {', '.join(still_families())}")
        experiment = self.start()
        from ..training.video import views_of

        views_of(experiment.scene)
        self.warm_up(experiment, ("mixed", self.family))
        from ..benchmarks.dynamic import dynamic

        path = dynamic(experiment, seconds=self.seconds, frame_seconds=self.frame_seconds, alone=self.alone, family=self.family)
        progress.say(path.read_text())
        progress.say(f"wrote {path}")
        return 0


@dataclass(frozen=True, kw_only=True)
class HashToMLP(Reproduce):
    """Distil a hash grid into an MLP and train the same MLP from scratch (PVD, section 4.2): PSNR against seconds."""

    teacher: Annotated[Path | None, value("TEACHER", "one is trained")] = None
    """Field file or run folder of a hash grid that is already trained."""
    teacher_seconds: Annotated[float, value("S", "120")] = 120.0
    """Seconds of training of the hash grid."""
    scratch_seconds: Annotated[float, value("S", "1800")] = 1800.0
    """Seconds of training of the MLP from scratch."""
    seconds: Annotated[float, value("S", "1200")] = 1200.0
    """Seconds of distillation."""

    def run(self) -> int:
        for name in ("seconds", "scratch_seconds", "teacher_seconds"):
            positive(name.replace("_", "-"), getattr(self, name))
        experiment = self.start()
        self.warm_up(experiment, ("hashgrid", "mlp"), points=True)
        from ..benchmarks.distillation import hash_to_mlp
        from ..training import load_run_or_field

        path = hash_to_mlp(
            experiment,
            teacher_seconds=self.teacher_seconds,
            scratch_seconds=self.scratch_seconds,
            seconds=self.seconds,
            teacher=None if self.teacher is None else load_run_or_field(self.teacher, device=experiment.device),
        )
        progress.say(path.read_text())
        progress.say(f"wrote {path}")
        return 0
