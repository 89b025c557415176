"""Quality against size: plain hash grids of several tables, the same behind a pruned saliency grid, and both packed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import progress
from ..compress.hollow import HollowPruner
from ..compress.prune import drop_unreached
from ..compress.search import Packer, Probe
from ..compress.sensitivity import random_rays, sensitivities
from ..datasets.scene import Scene
from ..render.renderer import render_image
from ..representations.field import Field
from ..representations.field_file import load_field
from ..training import TrainOptions, evaluate, train
from ..training.evaluation import eval_settings
from .machine import describe_cpu, timed

KINDS = ("plain", "hollow")
STEPS = (3e-6, 8e-6, 2e-5, 5e-5)
"""Quantisation steps, in colour, that packed variants are made with."""
NEAR = 0.1
"""Decibels within which two fields count as equally good."""
PUBLISHED = (("BiRF", 0.5e6, 32.03), ("HollowNeRF", 14.0e6, 32.53))
"""Mean over NeRF-Synthetic's eight scenes at 800x800, (name, bytes, dB): another protocol, drawn for orientation."""


@dataclass(frozen=True)
class Sweep:
    """What is trained and packed."""

    tables: tuple[int, ...] = (11, 12, 13, 14, 15, 16, 17)
    """log2 of the rows of hashed levels."""
    seconds: float | None = 300.0
    steps: int | None = None
    """Budget of every run: seconds, or optimiser steps."""
    keep: float = 0.1
    """Greatest share of the saliency grid that stays open."""
    saliency: int = 32
    """Vertices along a side of the saliency grid: HollowNeRF's 64^3 would outweigh the smaller tables."""
    samples: int | None = None
    """Field evaluations per step; None: the hash grid's own."""
    occupancy: int = 128
    """Cells along a side of the occupancy grid."""
    packed: tuple[int, ...] = (13, 15, 17)
    """Tables of which packed variants are made."""
    hollow: tuple[int, ...] | None = None
    """Tables that are pruned; None: all."""
    limit: int | None = None
    """Test images looked at; None: all."""
    seed: int = 0

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(kind, table) of all that is trained."""
        hollow = self.tables if self.hollow is None else self.hollow
        return [("plain", table) for table in self.tables] + [("hollow", table) for table in hollow]


def sweep(scene: Scene, out: Path, plan: Sweep, on_row: Callable[[dict[str, Any]], None] | None = None) -> list[dict[str, Any]]:
    """All rows, each as soon as it is there in ``out/rows.json``; rows that are there already are not made again.

    A row: kind, table, step (None: not packed), parameters (table, saliency grid and networks), bytes on disk, psnr,
    share of the occupancy grid's cells that are occupied.
    """
    path = out / "rows.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        path.write_text(json.dumps(rows, indent=1))
        if on_row is not None:
            on_row(row)

    def known(kind: str, table: int, step: float | None) -> bool:
        return any((r["kind"], r["table"], r["step"]) == (kind, table, step) for r in rows)

    for kind, table in plan.runs:
        if not known(kind, table, None):
            field, file = _trained(scene, out / f"{kind}-{table}", kind, table, plan)
            add({"kind": kind, "table": table, "step": None, **_measured(field, file, scene, plan)})
    for kind, table in plan.runs:
        missing = [step for step in STEPS if table in plan.packed and not known(kind, table, step)]
        for step, field, file in _packed(out / f"{kind}-{table}", missing, plan):
            add({"kind": kind, "table": table, "step": step, **_measured(field, file, scene, plan)})
    return rows


def _trained(scene: Scene, run: Path, kind: str, table: int, plan: Sweep) -> tuple[Field, Path]:
    hollow = kind == "hollow"
    options = TrainOptions(
        seconds=None if plan.steps else plan.seconds,
        steps=plan.steps,
        seed=plan.seed,
        samples=plan.samples,
        view_seconds=0.0,
        compress="hollow" if hollow else "none",
        keep=plan.keep,
        family_options={"log2_table": table, "occupancy": plan.occupancy, **({"saliency": plan.saliency} if hollow else {})},
    )
    progress.say(f"training {kind} with 2^{table} rows")
    result = train(scene, options, run, resume=True, pruner=HollowPruner(plan.keep) if hollow else None)
    if not result.finished:
        raise KeyboardInterrupt
    return result.field, result.path


def _packed(run: Path, steps: list[float], plan: Sweep) -> Iterable[tuple[float, Field, Path]]:
    if not steps:
        return
    import torch

    field = load_field(run / "field.field")
    drop_unreached(field)
    settings = eval_settings(field)
    probe = Probe(field, random_rays(field, 1 << 12, torch.Generator().manual_seed(plan.seed)), settings, None)
    packer = Packer(field, probe, run, lambda f: sensitivities(f, settings, rounds=16, seed=plan.seed))
    packer.refine(steps[len(steps) // 2])
    for step in steps:
        file = run / f"packed-{step:.0e}.field"
        yield step, packer.pack(step, file), file


def _measured(field: Field, file: Path, scene: Scene, plan: Sweep) -> dict[str, Any]:
    found = evaluate(field, scene, "test", limit=plan.limit)
    return {
        "parameters": field.numbers,
        "bytes": file.stat().st_size,
        "psnr": found.mean["psnr"],
        "occupied": field.occupancy.occupied_fraction,
    }


def frame_seconds(scene: Scene, out: Path, plan: Sweep, repeats: int = 5) -> dict[str, float]:
    """Seconds for the first test picture of every run by its name; the runs take turns, so that a busy moment hits all of them."""
    import torch

    names = [f"{kind}-{table}" for kind, table in plan.runs]
    camera, works = scene.cameras[scene.split["test"][0]], []
    for name in names:
        field = load_field(out / name / "field.field")

        def draw_it(field: Field = field) -> None:
            with torch.no_grad():
                render_image(field, camera, eval_settings(field, scene))

        works.append(draw_it)
    return dict(zip(names, timed(works, repeats), strict=True))


def whole(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The runs of one kind that are not packed, by parameters."""
    return sorted((r for r in rows if r["kind"] == kind and r["step"] is None), key=lambda r: r["parameters"])


def gains(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(table, dB) of every hollow run above the plain curve at as many parameters, by linear interpolation in log parameters."""
    import numpy as np

    plain = whole(rows, "plain")
    if len(plain) < 2:
        return []
    x, y = np.log([r["parameters"] for r in plain]), [r["psnr"] for r in plain]
    inside = [r for r in whole(rows, "hollow") if plain[0]["parameters"] <= r["parameters"] <= plain[-1]["parameters"]]
    return [(r["table"], float(r["psnr"] - np.interp(np.log(r["parameters"]), x, y))) for r in inside]


def report(rows: list[dict[str, Any]], seconds: dict[str, float]) -> str:
    """Tables and findings as Markdown."""
    lines = ["| field | parameters | PSNR, dB | file, kB | occupied | ms a picture |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        for r in whole(rows, kind):
            time = seconds.get(f"{kind}-{r['table']}")
            lines.append(
                f"| {kind} 2^{r['table']} | {r['parameters']} | {r['psnr']:.2f} | {r['bytes'] / 1e3:.0f} | {100 * r['occupied']:.1f} % | "
                f"{'' if time is None else f'{1e3 * time:.0f}'} |"
            )
    lines += ["", "| packed | step | file, kB | PSNR, dB |", "|---|---|---|---|"]
    for r in sorted((r for r in rows if r["step"] is not None), key=lambda r: (r["kind"] != "plain", r["table"], r["step"])):
        lines.append(f"| {r['kind']} 2^{r['table']} | {r['step']:.0e} | {r['bytes'] / 1e3:.0f} | {r['psnr']:.2f} |")
    lines.append("")
    for table, gain in gains(rows):
        lines.append(f"- hollow 2^{table}: {gain:+.2f} dB against the plain grid of as many parameters")
    largest = whole(rows, "plain")[-1]
    for kind in KINDS:
        near = [r for r in whole(rows, kind) if r["psnr"] >= largest["psnr"] - NEAR]
        share = f"{100 * near[0]['parameters'] / largest['parameters']:.0f} % (2^{near[0]['table']})" if near else "none measured"
        lines.append(f"- parameters of the smallest {kind} grid within {NEAR} dB of plain 2^{largest['table']}: {share}")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """PSNR against parameters, and against bytes on disk, side by side as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = {"plain": "#3b6ea5", "hollow": "#c4622d"}
    for kind in KINDS:
        runs = whole(rows, kind)
        for axis, key in ((left, "parameters"), (right, "bytes")):
            axis.plot([r[key] for r in runs], [r["psnr"] for r in runs], "o-", color=colours[kind], label=f"{kind}, float16")
        for table in sorted({r["table"] for r in rows if r["step"] is not None}):
            packed = [r for r in rows if (r["kind"], r["table"]) == (kind, table) and r["step"] is not None]
            packed.sort(key=lambda r: r["bytes"])
            right.plot(
                [r["bytes"] for r in packed], [r["psnr"] for r in packed], "s--", ms=4, lw=1, color=colours[kind],
                alpha=0.35 + 0.1 * (table - 11), label=f"{kind} 2^{table}, packed",
            )  # fmt: skip
    for name, size, psnr in PUBLISHED:
        right.plot(size, psnr, "k*", ms=8)
        place: dict[str, Any] = {"ha": "right", "xytext": (-6, -3)} if size > 2e6 else {"xytext": (6, -3)}
        right.annotate(f"{name} (mean of 8 scenes)", (size, psnr), fontsize=7, textcoords="offset points", **place)
    left.set(xscale="log", xlabel="parameters: table, saliency grid, networks", ylabel="PSNR, dB", title=title)
    right.set(xscale="log", xlabel="bytes on disk")
    for axis in (left, right):
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def describe(plan: Sweep) -> dict[str, Any]:
    """JSON-able settings, to lie beside the rows."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(plan)))  # tuples become lists, as a file holds them
    return found


def results(rows: list[dict[str, Any]], seconds: dict[str, float], plan: Sweep, scene: str) -> dict[str, Any]:
    """JSON-able: everything measured, and on what."""
    return {"scene": scene, "cpu": describe_cpu(), "settings": describe(plan), "rows": rows, "seconds_per_picture": seconds}
