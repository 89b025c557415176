"""What a distillation did, for people: ``report.md`` and its plots, from the run's own log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..representations.container import atomic_file
from .options import STAGES

REPORT_FILES = ("report.md", "psnr.png", "losses.png")


@dataclass(frozen=True)
class Curve:
    """A named line of (seconds, value) points; a ``level`` is one value, drawn all along."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "-"
    level: bool = False


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's ``metrics.jsonl``; half a line of a killed process is left out.

    Raises:
        UserError: the run has no log.
    """
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except OSError as error:
        raise UserError(f"{run}: its metrics.jsonl cannot be read ({error.strerror}); name the folder of a run") from error
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "seconds" in row:
            rows.append(row)
    return rows


def curve(rows: Sequence[Mapping[str, Any]], key: str, name: str, style: str = "-") -> Curve:
    """The rows that hold ``key``, as a line over seconds."""
    return Curve(name, [(float(row["seconds"]), float(row[key])) for row in rows if key in row], style)


def stage_starts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(stage, seconds at which the log first shows it), in order."""
    found: dict[str, float] = {}
    for row in rows:
        if "stage" in row:
            found.setdefault(str(row["stage"]), float(row["seconds"]))
    return sorted(found.items(), key=lambda item: STAGES.index(item[0]) if item[0] in STAGES else len(STAGES))


def plot(
    path: Path, curves: Sequence[Curve], label: str, title: str, *, marks: Sequence[tuple[str, float]] = (), log: bool = False
) -> None:
    """Lines against seconds; ``marks`` are named vertical lines.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line in curves:
        if line.level:
            axes.axhline(line.points[0][1], linestyle="--", color="0.5", label=line.name)
        elif line.points:
            x, y = zip(*line.points, strict=True)
            axes.plot(x, y, line.style, label=line.name)
    for name, at in marks:
        axes.axvline(at, color="0.85", zorder=0)
        axes.annotate(name, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(2, -10), textcoords="offset points", color="0.5")
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def write_report(
    run: Path, title: str, facts: Mapping[str, Any], *, teacher_psnr: float | None = None, against: Path | None = None
) -> None:
    """``report.md``, ``psnr.png`` and ``losses.png`` of a distillation.

    Args:
        facts: shown as a table, in order.
        teacher_psnr: the teacher's PSNR against the dataset's held-out view, if one was given.
        against: the folder of a training run from scratch, to compare with.

    Raises:
        UserError: a log cannot be read or a file cannot be written.
    """
    rows = read_log(run)
    curves = [
        curve(rows, "agreement_psnr", "student to teacher, one view", "o-"),
        curve(rows, "psnr", "student to teacher, rays of a batch"),
    ]
    if any("view_psnr" in row for row in rows):
        curves.append(curve(rows, "view_psnr", "student to photograph", "s-"))
    if teacher_psnr is not None:
        curves.append(Curve("teacher to photograph", [(0.0, teacher_psnr)], level=True))
    if against is not None:
        curves.append(curve(read_log(against), "view_psnr", f"{against.name}, from scratch, to photograph", "x--"))
    marks = stage_starts(rows)
    plot(run / "psnr.png", [c for c in curves if c.points], "PSNR (dB)", title, marks=marks)
    terms = sorted({key for row in rows for key in row if key.startswith("loss_")})
    plot(run / "losses.png", [curve(rows, key, key[5:]) for key in terms], "root mean square", f"{title}: losses", marks=marks, log=True)
    stages = [(name, f"{at:.1f}") for name, at in marks]
    text = [f"# {title}", markdown_table(("what", "value"), list(facts.items())), "![PSNR against seconds](psnr.png)"]
    text += ["## Stages", markdown_table(("stage", "first logged at (s)"), stages), "![losses](losses.png)"]
    with atomic_file(run / "report.md") as file:
        file.write(("\n\n".join(text) + "\n").encode())
