"""The experiments of PVD on one scene: every family into every other, ablations, and hash grid to MLP against MLP from scratch.

Every part of an experiment is kept in ``results.json`` as soon as it is measured; an interrupted experiment
goes on with the first part that is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..datasets.scene import Scene
from ..distill import DistillOptions, distill_field
from ..distill.agreement import agreement
from ..distill.report import Curve, markdown_table, plot
from ..representations.container import atomic_file
from ..representations.field import Field
from ..representations.field_file import load_field
from ..training import TrainOptions, TrainResult, evaluate, train
from ..training.trainer import Callback
from .training import ScoreAtMarks, seconds_to

RESULTS = "results.json"
ABLATIONS: dict[str, dict[str, bool]] = {
    "all of it": {},
    "no stages": {"progressive": False},
    "no density clamp": {"clamp": False},
    "no inheritance": {"inherit": False},
    "no active images": {"active_images": False},
    "no active rays": {"active_rays": False},
    "no active points": {"active_points": False},
    "no active learning": {"active_images": False, "active_rays": False, "active_points": False},
}
"""What is left out -> options."""

FIRST_MARK = 60.0
"""Seconds after which a curve begins: an MLP that has learned nothing is fog, whose pictures take a minute each."""


class Watch(Protocol):
    """Makes the callback that shows a part's progress: ``watch(title)``, used as a context manager by the caller."""

    def __call__(self, title: str, work: Callable[[Callback], TrainResult]) -> TrainResult: ...


@dataclass
class Experiment:
    """A folder of results, part by part.

    ``watch(title, work)`` calls ``work(callback)`` with a callback that shows progress.
    """

    folder: Path
    scene: Scene
    watch: Watch
    device: str = "auto"
    seed: int = 0
    views: int = 25
    """Test views that score every field."""
    curve_views: int = 5
    """Of them, those that score a curve's points."""

    def __post_init__(self) -> None:
        path = self.folder / RESULTS
        self.results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The part's result: what was kept, else measured now and kept."""
        if name not in self.results:
            self.results[name] = measure()
            with atomic_file(self.folder / RESULTS) as file:
                file.write((json.dumps(self.results, indent=1) + "\n").encode())
        found: dict[str, Any] = self.results[name]
        return found

    def score(self, result: TrainResult) -> dict[str, Any]:
        """Test PSNR and SSIM of the saved field, what it cost, and its size."""
        mean = evaluate(load_field(result.path), self.scene, "test", limit=self.views).mean
        return {
            "psnr": mean["psnr"],
            "ssim": mean["ssim"],
            "seconds": round(result.seconds, 2),
            "steps": result.step,
            "bytes": result.path.stat().st_size,
            "seconds_per_picture": mean["seconds"],
        }

    def trained(self, family: str, seconds: float, *, curve: bool = False) -> Field:
        """A field trained on the photographs, kept in ``teachers/``; its scores are the part ``teacher FAMILY``."""
        run = self.folder / ("scratch" if curve else "teachers") / family

        def measure() -> dict[str, Any]:
            options = TrainOptions(field=family, seconds=seconds, seed=self.seed, device=self.device, view_seconds=0.0)
            return self._measured(
                f"train {family}", seconds, curve, lambda watchers: train(self.scene, options, run, resume=True, callbacks=watchers)
            )

        self.part(f"{'scratch' if curve else 'teacher'} {family}", measure)
        return load_field(run / "field.field")

    def distilled(self, name: str, teacher: Field, options: DistillOptions, *, curve: bool = False) -> dict[str, Any]:
        """The scores of one distillation."""
        run = self.folder / "students" / name.replace(" ", "-")
        assert options.seconds is not None
        seconds = options.seconds
        options = replace(options, seed=self.seed, device=self.device, view_seconds=0.0)

        def measure() -> dict[str, Any]:
            found = self._measured(
                name,
                seconds,
                curve,
                lambda watchers: distill_field(teacher, options, run, scene=self.scene, resume=True, callbacks=watchers),
            )
            return {**found, "agreement": agreement(load_field(run / "field.field"), teacher)}

        return self.part(name, measure)

    def _measured(self, title: str, seconds: float, curve: bool, work: Callable[[Sequence[Callback]], TrainResult]) -> dict[str, Any]:
        scorer = ScoreAtMarks(self.scene, self.curve_views, seconds, lambda *_: None, first=FIRST_MARK) if curve else None
        result = self.watch(title, lambda follow: work([follow] if scorer is None else [follow, scorer]))
        if not result.finished:
            raise KeyboardInterrupt
        if scorer is None:
            return self.score(result)
        scorer.score(result.field, result.step, result.seconds)
        return {**self.score(result), "curve": scorer.points}


def any_to_any(
    experiment: Experiment,
    teachers: Sequence[str],
    students: Sequence[str],
    *,
    teacher_seconds: float,
    seconds: float,
    ablate: Sequence[tuple[str, str]] = (),
) -> Path:
    """Every teacher into every student, and ablations of some pairs; returns the report.

    The diagonal is the teacher itself: a family of the same size would only be copied.
    """
    fields = {family: experiment.trained(family, teacher_seconds) for family in dict.fromkeys([*teachers, *(a for a, _ in ablate)])}
    for teacher in teachers:
        for student in students:
            if student != teacher:
                experiment.distilled(f"{teacher} to {student}", fields[teacher], DistillOptions(to=student, seconds=seconds))
    for teacher, student in ablate:
        for name, without in ABLATIONS.items():
            label = f"{teacher} to {student}" + (f", {name}" if without else "")
            experiment.distilled(label, fields[teacher], DistillOptions(to=student, seconds=seconds, **without))  # type: ignore[arg-type]
    return _matrix_report(experiment, teachers, students, ablate, teacher_seconds, seconds)


def _matrix_report(
    experiment: Experiment,
    teachers: Sequence[str],
    students: Sequence[str],
    ablate: Sequence[tuple[str, str]],
    teacher_seconds: float,
    seconds: float,
) -> Path:
    found, scene = experiment.results, experiment.scene

    def cell(teacher: str, student: str, key: str) -> float | str:
        if teacher == student:
            return f"*{found[f'teacher {teacher}'][key]:.2f}*" if key in found[f"teacher {teacher}"] else "-"
        return float(found[f"{teacher} to {student}"][key])

    def matrix(key: str) -> str:
        return markdown_table(("teacher \\ student", *students), [[t, *(cell(t, s, key) for s in students)] for t in teachers])

    gaps = [[t, *("-" if s == t else found[f"{t} to {s}"]["psnr"] - found[f"teacher {t}"]["psnr"] for s in students)] for t in teachers]
    text = [
        f"# Any to any on {scene.name}",
        f"Teachers trained for {teacher_seconds:g} s, students distilled for {seconds:g} s, no photographs; "
        f"means over {min(experiment.views, len(scene.split['test']))} test views; teachers in italics. One run, seed {experiment.seed}.",
        "## PSNR against photographs (dB)",
        matrix("psnr"),
        "## PSNR less the teacher's (dB)",
        markdown_table(("teacher \\ student", *students), gaps),
        "## PSNR of student against teacher (dB)",
        matrix("agreement"),
        "![matrix](matrix.png)",
    ]
    for teacher, student in ablate:
        label = f"{teacher} to {student}"
        base = found[label]
        rows = []
        for name, without in ABLATIONS.items():
            row = found[f"{label}, {name}" if without else label]
            rows.append(
                (name, row["psnr"], row["psnr"] - base["psnr"], row["agreement"], row["agreement"] - base["agreement"], row["steps"])
            )
        columns = ("left out", "PSNR", "difference", "to teacher", "difference", "steps")
        text += [f"## Ablations, {label}", markdown_table(columns, rows)]
    _plot_matrix(experiment.folder / "matrix.png", teachers, students, gaps)
    return _write(experiment.folder / "report.md", text)


def _plot_matrix(path: Path, teachers: Sequence[str], students: Sequence[str], gaps: Sequence[Sequence[Any]]) -> None:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = np.array([[np.nan if isinstance(value, str) else value for value in row[1:]] for row in gaps], float)
    figure = Figure(figsize=(1.6 + len(students), 1.2 + 0.7 * len(teachers)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(numbers, cmap="RdYlGn", vmin=-3.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(students)), students)
    axes.set_yticks(range(len(teachers)), teachers)
    axes.set_xlabel("student")
    axes.set_ylabel("teacher")
    for (row, column), value in np.ndenumerate(numbers):
        if np.isfinite(value):
            axes.text(column, row, f"{value:+.2f}", ha="center", va="center")
    axes.set_title("PSNR of the student less its teacher's (dB)")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def hash_to_mlp(
    experiment: Experiment, *, teacher_seconds: float, scratch_seconds: float, seconds: float, teacher: Field | None = None
) -> Path:
    """PVD's claim: an MLP distilled from a hash grid against one trained on the photographs; returns the report.

    With a ``teacher`` given, training one is left out and its time counts as 0.
    """
    given = teacher is not None
    if teacher is None:
        teacher = experiment.trained("hashgrid", teacher_seconds)
    else:
        settled = teacher
        experiment.part(
            "teacher hashgrid",
            lambda: {"psnr": evaluate(settled, experiment.scene, "test", limit=experiment.views).mean["psnr"], "seconds": 0.0},
        )
    student = experiment.distilled("hashgrid to mlp", teacher, DistillOptions(to="mlp", seconds=seconds), curve=True)
    experiment.trained("mlp", scratch_seconds, curve=True)
    scratch, taught = experiment.results["scratch mlp"], experiment.results["teacher hashgrid"]
    final = scratch["curve"][-1]["psnr"]  # of the same views as the student's curve
    reached = seconds_to(student["curve"], final)
    with_teacher = None if reached is None else reached + taught["seconds"]

    def ratio(spent: float | None) -> str:
        return "not reached" if spent is None else f"{spent:.0f} s, {scratch['seconds'] / max(spent, 1e-9):.1f}x less"

    summary = {
        "scratch": scratch["psnr"],
        "student": student["psnr"],
        "seconds_to_scratch": reached,
        "seconds_to_scratch_with_teacher": with_teacher,
    }
    experiment.part("summary", lambda: summary)
    curves = [
        Curve("hash grid to MLP", [(p["seconds"], p["psnr"]) for p in student["curve"]], "o-"),
        Curve("MLP from scratch", [(p["seconds"], p["psnr"]) for p in scratch["curve"]], "s-"),
        Curve("teacher", [(0.0, taught["psnr"])], level=True),
    ]
    plot(experiment.folder / "curves.png", curves, "test PSNR (dB)", f"MLP on {experiment.scene.name}")
    equal = [
        (f"{p['seconds']:.0f}", p["psnr"], q["psnr"], p["psnr"] - q["psnr"])
        for p in student["curve"]
        if (q := min(scratch["curve"], key=lambda q: abs(q["seconds"] - p["seconds"])))
        and abs(q["seconds"] - p["seconds"]) < 0.1 * p["seconds"]
    ]
    rows = [
        ("teacher (hash grid)", taught["psnr"], f"{taught['seconds']:.0f} s" + (", given" if given else "")),
        ("MLP from scratch", scratch["psnr"], f"{scratch['seconds']:.0f} s"),
        ("MLP from the hash grid", student["psnr"], f"{student['seconds']:.0f} s"),
        ("the same, to the PSNR of scratch", scratch["psnr"], ratio(reached)),
        ("the same, with the teacher's time", scratch["psnr"], ratio(with_teacher)),
    ]
    text = [
        f"# Hash grid to MLP on {experiment.scene.name}",
        f"Same renderer, kernels and machine, one after the other; {experiment.views} test views, {experiment.curve_views} of them along "
        f"the curves; seed {experiment.seed}. "
        "Learning rates follow each run's own budget.",
        markdown_table(("what", "PSNR (dB)", "time"), rows),
        "## At equal time",
        markdown_table(("seconds", "distilled", "scratch", "difference"), equal),
        "![PSNR against seconds](curves.png)",
    ]
    return _write(experiment.folder / "report.md", text)


def _write(path: Path, text: Sequence[str]) -> Path:
    with atomic_file(path) as file:
        file.write(("\n\n".join(text) + "\n").encode())
    return path
