"""MixVoxels on a clip: the split against all of space moving, and against one static field per frame, at equal quality."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets.procedural.movers import Moment
from ..datasets.scene import Scene
from ..distill.report import Curve, markdown_table, plot
from ..errors import UserError
from ..render.renderer import render_image
from ..render.times import render_times
from ..representations.field import Field
from ..representations.field_file import load_field
from ..representations.mixed import MixedField
from ..training import TrainOptions, evaluate, train
from ..training.evaluation import eval_settings
from ..training.video import views_of
from .distillation import Experiment, _write
from .training import ScoreAtMarks, seconds_to

NAMES = {"mixed": "mixed (static and dynamic voxels)", "everything": "all voxels dynamic"}

FIRST = 0.15
"""Share of a run whose curve is not scored: until the cells are named nothing of it moves, and fog takes long to draw."""


def thinned(scene: Scene, views: int) -> Scene:
    """The scene with ``views`` of its test images, evenly over the clip."""
    test = scene.split["test"]
    picked = np.unique(np.linspace(0, len(test) - 1, min(views, len(test))).round().astype(int))
    return replace(scene, split={**scene.split, "test": [test[i] for i in picked]})


def one_frame(scene: Scene, frame: int) -> Scene:
    """What all cameras saw at one time, as a scene that stands still."""
    chosen = {name: [indices[frame]] for name, indices in (("test", scene.split["test"]),)}
    chosen["train"] = [view[frame] for view in views_of(scene)]
    still = [replace(camera, time=None) for camera in scene.cameras]
    facts = {key: value for key, value in scene.facts.items() if key not in ("frames", "views")}
    return replace(scene, cameras=still, split={**chosen, "val": []}, facts=facts)


def dynamic(
    experiment: Experiment,
    *,
    seconds: float,
    frame_seconds: float,
    alone: int = 6,
    family: str = "vm",
    settings: dict[str, Any] | None = None,
) -> Path:
    """Train ``mixed`` with and without its split for ``seconds`` each, and static fields of ``alone`` frames; returns the report.

    The fields of all frames are extrapolated from those of ``alone`` frames.
    """
    scene = experiment.scene
    views = views_of(scene)
    frames = len(views[0])
    if len(scene.split["test"]) != frames:
        raise UserError(f"{scene.root}: the experiment needs one held-out camera; choose another --data")
    judged = thinned(scene, experiment.views)
    for name in NAMES:
        options = {**(settings or {}), **({"everything": True} if name == "everything" else {})}
        experiment.part(name, lambda name=name, options=options: _mixed(experiment, judged, name, options, seconds))  # type: ignore[misc]
    goals = np.unique(np.linspace(0, frames - 1, min(alone, frames)).round().astype(int)).tolist()
    for frame in goals:
        experiment.part(f"frame {frame}", lambda frame=frame: _alone(experiment, frame, family, frame_seconds))  # type: ignore[misc]
    return _report(experiment, seconds, frame_seconds, goals, frames, family)


def _mixed(experiment: Experiment, scene: Scene, name: str, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    run = experiment.folder / "fields" / name
    options = TrainOptions(
        field="mixed", seconds=seconds, seed=experiment.seed, device=experiment.device, view_seconds=0.0, family_options=settings
    )
    scorer = ScoreAtMarks(scene, experiment.curve_views, seconds, lambda *_: None, first=FIRST * seconds)
    scorer.scene = thinned(scene, experiment.curve_views)
    result = experiment.watch(name, lambda follow: train(scene, options, run, resume=True, callbacks=[follow, scorer]))
    if not result.finished:
        raise KeyboardInterrupt
    scorer.score(result.field, result.step, result.seconds)
    field = load_field(result.path)
    assert isinstance(field, MixedField)
    mean = evaluate(field, scene, "test").mean
    return {
        **{key: mean[key] for key in ("psnr", "ssim", "psnr_moving", "psnr_still", "moving_share") if key in mean},
        "seconds": round(result.seconds, 1),
        "steps": result.step,
        "bytes": result.path.stat().st_size,
        "curve": scorer.points,
        "curve_psnr": scorer.points[-1]["psnr"],
        **split_facts(field, scene),
        **speeds(field, scene),
    }


def split_facts(field: MixedField, scene: Scene) -> dict[str, Any]:
    """Shares of cells and of a test view's samples that stand still; recall of cells that truly move, where the geometry is known."""
    live, split = field.occupancy.bits, field.split
    camera = scene.cameras[scene.split["test"][0]]
    with torch.no_grad():
        seen = render_times(field, camera.resized(max(1, camera.width // 2), max(1, camera.height // 2)).rays(), eval_settings(field))
    facts: dict[str, Any] = {
        "still_cells": 1.0 - float(split.float().mean()),
        "still_occupied_cells": float((live & ~split).sum()) / max(1, int(live.sum())),
        "still_samples": seen.still / max(1, seen.still + seen.moving),
    }
    seed = (scene.facts.get("procedural") or {}).get("seed")
    if seed is not None:
        truth = truly_moving(field, int(seed), field.frames, np.array(scene.facts["axes"]))
        facts["truly_moving_cells"] = float(truth.float().mean())
        facts["recall"] = float((truth & split).sum()) / max(1, int(truth.sum()))
        facts["precision"] = float((truth & split).sum()) / max(1, int(split.sum()))
    return facts


def truly_moving(field: MixedField, seed: int, frames: int, axes: np.ndarray) -> torch.Tensor:
    """Cells whose centre is inside something that moves at some frame, bool [R, R, R], from the exact geometry.

    Rows of ``axes`` [3, 3] are the field's axes in the geometry's coordinates.
    """
    n = field.split.shape[0]
    axis = (torch.arange(n) + 0.5) / n
    unit = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    world = field.space.from_unit(unit) @ torch.from_numpy(axes).float()
    near = (world.abs() <= 1.05).all(-1).nonzero()[:, 0]  # the stage
    found = torch.zeros(n**3, dtype=torch.bool)
    points = world[near].double().numpy()
    for frame in range(frames):
        moment = Moment(seed, frame / frames)
        distance, which = moment.nearest(points)
        found[near] |= torch.from_numpy((distance <= 0.0) & moment.moving[which].astype(bool))
    return found.view(n, n, n)


def speeds(field: MixedField, scene: Scene) -> dict[str, float]:
    """Pictures per second, by both definitions: moments one by one, and all frames of one view together."""
    camera, settings = scene.cameras[scene.split["test"][0]], eval_settings(field)
    start = time.perf_counter()
    for k in range(3):
        render_image(field, replace(camera, time=k / 2), settings)
    one = (time.perf_counter() - start) / 3
    rays = camera.rays()
    start = time.perf_counter()
    with torch.no_grad():
        for begin in range(0, len(rays), 2048):
            render_times(field, rays[begin : begin + 2048], settings)
    return {"fps_moment": 1.0 / one, "fps_clip": field.frames / (time.perf_counter() - start)}


def _alone(experiment: Experiment, frame: int, family: str, seconds: float) -> dict[str, Any]:
    scene = one_frame(experiment.scene, frame)
    options = TrainOptions(field=family, seconds=seconds, seed=experiment.seed, device=experiment.device, view_seconds=0.0)
    scorer = ScoreAtMarks(scene, 1, seconds, lambda *_: None)
    run = experiment.folder / "fields" / f"frame-{frame}"
    result = experiment.watch(f"frame {frame}", lambda follow: train(scene, options, run, resume=True, callbacks=[follow, scorer]))
    if not result.finished:
        raise KeyboardInterrupt
    scorer.score(result.field, result.step, result.seconds)
    field: Field = load_field(result.path)
    mean = evaluate(field, scene, "test").mean
    return {"psnr": mean["psnr"], "psnr_moving": mean.get("psnr_moving"), "seconds": round(result.seconds, 1), "curve": scorer.points}


def _report(experiment: Experiment, seconds: float, frame_seconds: float, goals: Sequence[int], frames: int, family: str) -> Path:
    found, scene = experiment.results, experiment.scene
    mixed, everything = found["mixed"], found["everything"]
    alone = [found[f"frame {frame}"] for frame in goals]

    def to(points: list[dict[str, float]], psnr: float) -> str:
        spent = seconds_to(points, psnr)
        return "not reached" if spent is None else f"{spent:.0f} s"

    equal = min(mixed["curve_psnr"], everything["curve_psnr"])
    mean_alone = sum(part["psnr"] for part in alone) / len(alone)
    reached = [seconds_to(part["curve"], equal) for part in alone]
    all_frames = (
        "not reached by " + str(sum(r is None for r in reached)) + f" of {len(alone)}"
        if any(r is None for r in reached)
        else f"{frames * sum(r or 0.0 for r in reached) / len(alone):.0f} s (extrapolated from {len(alone)} of {frames} frames)"
    )
    rows = [
        (
            NAMES[name],
            part["psnr"],
            part.get("psnr_moving", math.nan),
            part.get("psnr_still", math.nan),
            part["ssim"],
            f"{part['seconds']:.0f} s",
            to(part["curve"], equal),
        )
        for name, part in (("mixed", mixed), ("everything", everything))
    ]
    rows.append(
        (
            f"one {family} field per frame ({len(alone)} of {frames} trained)",
            mean_alone,
            sum(part["psnr_moving"] or math.nan for part in alone) / len(alone),
            math.nan,
            math.nan,
            f"{frame_seconds:g} s each, {frame_seconds * frames:.0f} s for all (extrapolated)",
            all_frames,
        )
    )
    columns = ("what", "PSNR (dB)", "where things move", "elsewhere", "SSIM", "training", f"to {equal:.2f} dB along the curve")
    shares = [
        (NAMES[name], *(f"{100 * part[key]:.1f} %" if key in part else "-" for key in SHARES), part["fps_moment"], part["fps_clip"])
        for name, part in (("mixed", mixed), ("everything", everything))
    ]
    text = [
        f"# Mixed voxels on {scene.name}",
        f"{len(views_of(scene))} cameras, {frames} frames of {scene.cameras[0].width}x{scene.cameras[0].height}; one held-out camera, "
        f"{min(experiment.views, frames)} of its frames score, {min(experiment.curve_views, frames)} along the curves; same kernels and "
        f"machine, one after the other; learning rates follow each run's own budget. One run, seed {experiment.seed}.",
        markdown_table(columns, rows),
        "## What is treated as still, and speed",
        markdown_table(("what", *SHARES.values(), "moments a second", "frames a second, whole clip of a view"), shares),
        "![PSNR against seconds](curves.png)",
    ]
    curves = [
        Curve(NAMES[name], [(p["seconds"], p["psnr"]) for p in part["curve"]], "o-")
        for name, part in (("mixed", mixed), ("everything", everything))
    ]
    plot(experiment.folder / "curves.png", curves, "test PSNR (dB)", f"Mixed voxels on {scene.name}")
    return _write(experiment.folder / "report.md", text)


SHARES = {
    "still_cells": "cells still",
    "still_occupied_cells": "occupied cells still",
    "still_samples": "samples still",
    "recall": "recall of moving cells",
    "precision": "precision",
}
