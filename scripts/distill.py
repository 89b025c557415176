"""``fieldmorph distill``: any field into any other representation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from .. import progress
from ..errors import UserError
from .options import Compute, FamilyOptions, Running, Talk, WarmUp, describe_scene, open_scene, parse_settings, start_folder, value
from .train import RUN_FILES

if TYPE_CHECKING:
    from ..datasets.scene import Scene
    from ..distill import DistillOptions
    from ..distill.fusion import Branch
    from ..representations.field import Field
    from ..training import StepStats, Trainer
    from ..training.run import TrainResult
    from ..training.trainer import Callback

Switch = Literal["on", "off"]

SWITCHES = {
    "stages": "progressive",
    "clamp": "clamp",
    "inherit": "inherit",
    "active_images": "active_images",
    "active_rays": "active_rays",
    "active_points": "active_points",
}
"""Flag -> option, on or off."""
CHANGEABLE = ("steps", "seconds", "device", "checkpoint_seconds", "checkpoint_steps", "view_seconds")
"""Options that may change when a run is resumed."""


@dataclass(frozen=True, kw_only=True)
class Distill(Running, Compute, FamilyOptions, Talk):
    """Convert a field into another representation by learning from it; no photographs are needed.

    Goes through PVD's stages (features, points, rays), looking most at what student and teacher differ in (PVD-AL).
    The run folder receives the field (field.field), checkpoints, config.yaml, metrics.jsonl, pictures
    of teacher beside student, and report.md. Ctrl-C saves and stops.
    """

    teacher: Annotated[Positional[Path | None], value("TEACHER")] = None
    """Field file or run folder to convert. May be left out with --resume."""
    to: Annotated[str | None, value("NAME", "vm")] = None
    """Family of representation to convert into: hashgrid, mlp, vm, cp, voxels, hybrid."""
    branch: Annotated[tuple[str, ...], value("KIND=FIELD"), UseAppendAction] = ()
    """With --to hybrid: a branch that learns from a field of its own first, for example vm=runs/edited, and then stays as it
    is while the others learn the TEACHER; may be given several times."""
    time: Annotated[float | None, value("T")] = None
    """The moment, from 0 to 1, that a teacher that moves is frozen at."""
    data: Annotated[Path | None, value("DATA")] = None
    """Dataset to compare with, and to finish on with --photographs."""
    photographs: Annotated[float | None, value("SHARE", "0")] = None
    """Share of the budget, at its end, that trains on the photographs of --data."""
    against: Annotated[Path | None, value("RUN")] = None
    """A run trained from scratch, to be drawn into the report."""
    stages: Annotated[Switch | None, value("on|off", "on")] = None
    """Off: all losses act from the start."""
    clamp: Annotated[Switch | None, value("on|off", "on")] = None
    """Off: log densities are compared as they are, not within PVD's range."""
    inherit: Annotated[Switch | None, value("on|off", "on")] = None
    """Off: the student starts from nothing, its occupancy included."""
    active_images: Annotated[Switch | None, value("on|off", "on")] = None
    """Look again from where student and teacher differ most."""
    active_rays: Annotated[Switch | None, value("on|off", "on")] = None
    """Take along rays that were hard before."""
    active_points: Annotated[Switch | None, value("on|off", "on")] = None
    """Compare only at the points that make up most of a ray."""
    view_seconds: Annotated[float | None, value("S", "30")] = None
    """Render a view of teacher and student so often; 0 never does."""
    view: bool = False
    """Open a window that shows the student beside its teacher while it learns; closing it does not end the run."""

    def run(self) -> int:
        self.talk()
        if self.view:
            from ..viewer.gui import require_window

            require_window()
        self.claim()
        device = self.choose_device()
        options, source, data = self._options()
        for branch in branches_of(options):
            if not branch.source.exists():
                raise UserError(f"--branch {branch.kind}={branch.source}: that does not exist; give a field file or a run folder")
        warm_up = WarmUp(options.to, device, points=True)
        from ..distill.run import BRANCHES, frozen
        from ..training import load_run_or_field

        teacher = load_run_or_field(source, device=str(device))
        shown = frozen(teacher, options)
        more = WarmUp(teacher.family, device, points=True)
        scene = None if data is None else open_scene(data)
        progress.say(f"teacher {source}: {teacher.family}, {teacher.numbers:,} parameters")
        if scene is not None:
            progress.say(f"{data}: {describe_scene(scene)}")
        warm_up.wait()
        more.wait()
        start_folder(self.out, (*RUN_FILES, *report_files(), BRANCHES) if self.overwrite else ())

        def learn(*callbacks: Callback) -> int:
            result = run_distillation(teacher, options, self.out, scene=scene, source=source, resume=self.resume, callbacks=callbacks)
            if not result.finished:
                progress.say(f"interrupted; continue with: fieldmorph distill --resume --out {self.out}")
                return 130
            report(result, shown, options, self.out, scene, self.against)
            return 0

        if not self.view:
            return learn()
        from ..viewer.entries import open_entry
        from ..viewer.watch import watch_run

        return watch_run(learn, self.out.name, data, str(device), beside=[open_entry(source, str(device), data)])

    def _options(self) -> tuple[DistillOptions, Path, Path | None]:
        """What to do, from what, with what dataset: the flags, over the run's own config where it is resumed."""
        from ..distill import DistillOptions, read_distill_config
        from ..representations.options import options_from
        from ..representations.registry import get_family

        given: dict[str, Any] = {name: getattr(self, name, None) for name in DistillOptions.__dataclass_fields__}
        given.update({option: None if (flag := getattr(self, name)) is None else flag == "on" for name, option in SWITCHES.items()})
        given = {name: flag for name, flag in given.items() if flag is not None and flag != ()}
        before, source, data = None, self.teacher, self.data
        if self.resume and (self.out / "config.yaml").exists():
            recorded, recorded_data, before = read_distill_config(self.out)
            source, data = source or recorded, data or recorded_data
        if source is None:
            raise UserError("name the TEACHER to convert: a field file or a run folder")
        family = get_family(given.get("to") or (before.to if before else DistillOptions.to))
        settings = parse_settings(self.set_, family.options)
        options_from(family.options, settings)  # a value that cannot be is said before anything is read
        if settings or not before:
            given["family_options"] = settings
        if "branch" in given:
            given["branch"] = tuple(_absolute(text) for text in given["branch"])
        if self.device == "auto" and before:
            given["device"] = before.device
        try:
            if not before:
                return DistillOptions(**given), source, data
            for name in given:
                if name not in CHANGEABLE and given[name] != getattr(before, name):
                    was = getattr(before, name)
                    raise UserError(f"{self.out} was started with {name} {was}, which a resumed run keeps; leave it out or start a new run")
            if "steps" in given or "seconds" in given:
                given = {"steps": None, "seconds": None, **given}
            return replace(before, **given), source, data
        except ValueError as error:
            raise UserError(str(error)) from error


def _absolute(branch: str) -> str:
    """KIND=FIELD with a path that means the same wherever the run is resumed."""
    kind, equals, source = branch.partition("=")
    return f"{kind}={Path(source).absolute()}" if equals and source else branch


def branches_of(options: DistillOptions) -> list[Branch]:
    from ..distill.fusion import parse_branches

    return parse_branches(options)


def report_files() -> tuple[str, ...]:
    from ..distill.report import REPORT_FILES

    return REPORT_FILES


def run_distillation(
    teacher: Field,
    options: DistillOptions,
    out: Path,
    *,
    scene: Scene | None = None,
    source: Path | None = None,
    resume: bool = False,
    title: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Distil with a progress bar that shows stage, loss and agreement; says what was written after."""
    from ..distill import distill_field
    from ..training.metrics import mse_to_psnr

    smooth: dict[str, float] = {}

    def follow(trainer: Trainer, stats: StepStats) -> None:
        for name, number in (("loss", stats.loss), (f"mse {stats.stage}", stats.mse)):
            smooth[name] = number if name not in smooth else 0.95 * smooth[name] + 0.05 * number
        agreement = round(mse_to_psnr(smooth[f"mse {stats.stage}"]), 2)
        bar.update(stats.progress, count=stats.step, stage=stats.stage, loss=smooth["loss"], psnr=agreement)

    with progress.Bar(title or f"distill {teacher.family} to {options.to}", 1.0, "steps") as bar:
        result = distill_field(teacher, options, out, scene=scene, source=source, resume=resume, callbacks=[follow, *callbacks])
    size = progress.format_bytes(result.path.stat().st_size)
    progress.say(f"wrote {result.path} ({size}) after {result.step} steps and {progress.format_seconds(result.seconds)} of distilling")
    return result


def report(result: TrainResult, teacher: Field, options: DistillOptions, out: Path, scene: Scene | None, against: Path | None) -> None:
    """Measure how student and teacher agree (and both with the photographs), say it, and write ``report.md``."""
    from ..distill.agreement import agreement
    from ..distill.report import write_report

    facts: dict[str, Any] = {
        "teacher": f"{teacher.family}, {teacher.numbers:,} parameters",
        "student": f"{options.to}, {result.field.numbers:,} parameters",
        "file": progress.format_bytes(result.path.stat().st_size),
        "steps": result.step,
        "seconds": round(result.seconds, 1),
        "student to teacher, on new views (dB)": agreement(result.field, teacher),
    }
    teacher_view = None
    if scene is not None and scene.split.get("test"):
        from .eval import run_evaluation

        for name, field in (("teacher", teacher), ("student", result.field)):
            facts[f"{name} on test photographs (dB)"] = run_evaluation(field, scene, "test").mean["psnr"]
        teacher_view = facts["teacher on test photographs (dB)"]
    write_report(out, f"{teacher.family} to {options.to}", facts, teacher_psnr=teacher_view, against=against)
    progress.table(("measured", "value"), list(facts.items()))
    progress.say(f"{out / 'report.md'}: the same with plots over time")
