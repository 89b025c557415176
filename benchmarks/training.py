"""The whole job against the clock: held-out PSNR after so many seconds of training, and pictures per second of what came out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..datasets.scene import Scene
from ..distill.report import Curve, plot
from ..render.renderer import render_image
from ..representations.field import Field
from ..representations.field_file import save_field
from ..training import StepStats, Trainer, TrainOptions, evaluate, train
from ..training.evaluation import eval_settings
from .machine import peak_memory, timed

MARKS = (
    *(5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0),
    *(1200.0, 1500.0, 1800.0, 2400.0, 3000.0),
)
"""Seconds of training after which the held-out views are scored; the clock stands still meanwhile."""


class ScoreAtMarks:
    """A callback that scores ``views`` held-out views at :data:`MARKS` of ``seconds``; the run's clock stands still meanwhile.

    ``on_point(progress, seconds, psnr)`` is told each point; they collect in ``points``.
    """

    def __init__(
        self, scene: Scene, views: int, seconds: float, on_point: Callable[[float, float, float], None], first: float = 0.0
    ) -> None:
        """``first``: marks before it are left out, for families whose first pictures are fog, which takes long to draw."""
        self.scene, self.views, self.seconds, self.on_point = scene, views, seconds, on_point
        self.marks = [mark for mark in MARKS if first <= mark < seconds]
        self.points: list[dict[str, float]] = []

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        seconds = trainer.budget.elapsed
        if self.marks and seconds >= self.marks[0]:
            while self.marks and seconds >= self.marks[0]:
                del self.marks[0]
            self.score(trainer.field, stats.step, seconds)

    def score(self, field: Field, step: int, seconds: float) -> None:
        psnr = evaluate(field, self.scene, "test", limit=self.views).mean["psnr"]
        self.points.append({"seconds": round(seconds, 2), "step": step, "psnr": psnr})
        self.on_point(min(1.0, seconds / self.seconds), seconds, psnr)


def learning_curve(
    scene: Scene, options: TrainOptions, views: int, on_point: Callable[[float, float, float], None]
) -> tuple[Field, list[dict[str, float]]]:
    """Train for ``options.seconds`` and score ``views`` test views at :data:`MARKS` and at the end.

    ``on_point(progress, seconds, psnr)`` is told each point. Compiling is not counted: the kernels must be ready before.
    """
    assert options.seconds is not None
    scorer = ScoreAtMarks(scene, views, options.seconds, on_point)
    with tempfile.TemporaryDirectory() as folder:
        quiet = replace(options, view_seconds=0.0, checkpoint_seconds=1e9)
        result = train(scene, quiet, Path(folder) / "run", callbacks=[scorer])
        if not result.finished:
            raise KeyboardInterrupt
        scorer.score(result.field, result.step, result.seconds)
    return result.field, scorer.points


def seconds_to(points: Sequence[dict[str, float]], psnr: float) -> float | None:
    """Seconds of training until a PSNR was reached, interpolated between the points; None: never."""
    before: dict[str, float] | None = None
    for point in points:
        if point["psnr"] >= psnr:
            if before is None:
                return point["seconds"]
            share = (psnr - before["psnr"]) / (point["psnr"] - before["psnr"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        before = point
    return None


def frames_per_second(field: Field, scene: Scene, repeats: int = 3) -> dict[str, float]:
    """Full-quality pictures per second of the first test view at its own size, and at twice its width and height."""
    camera = scene.cameras[scene.split["test"][0]]
    settings = eval_settings(field, scene)
    sizes = [camera, camera.resized(2 * camera.width, 2 * camera.height)]
    seconds = timed([lambda c=c: render_image(field, c, settings) for c in sizes], repeats, field.device)  # type: ignore[misc]
    return {f"{c.width}x{c.height}": 1.0 / spent for c, spent in zip(sizes, seconds, strict=True)}


def file_bytes(field: Field) -> int:
    """Size of the field file as ``train`` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.field"
        save_field(field, path, precision="float16")
        return path.stat().st_size


def measure_training(
    scene: Scene, family: str, seconds: float, views: int, on_point: Callable[[float, float, float], None], device: str = "cpu"
) -> dict[str, Any]:
    """Curve, time to round numbers of dB, quality and size of what came out, frames per second. JSON-able."""
    field, points = learning_curve(scene, TrainOptions(field=family, seconds=seconds, device=device), views, on_point)
    peak = peak_memory()
    last = evaluate(field, scene, "test", limit=views).mean
    return {
        "scene": scene.name,
        "fingerprint": scene.fingerprint,
        "family": family,
        "views": min(views, len(scene.split["test"])),
        "curve": points,
        "seconds_to": {str(psnr): seconds_to(points, psnr) for psnr in (25, 28, 30, 32, 33, 35)},
        "psnr": last["psnr"],
        "ssim": last["ssim"],
        "parameters": field.numbers,
        "file_bytes": file_bytes(field),
        "peak_bytes": peak,
        "frames_per_second": frames_per_second(field, scene),
    }


def draw_curves(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """PSNR against seconds of training, a line for each of ``runs`` (of :func:`measure_training`), as PNG.

    Raises:
        UserError: the file cannot be written.
    """
    lines = [Curve(run["family"], [(p["seconds"], p["psnr"]) for p in run["curve"]], "o-") for run in runs]
    scenes = ", ".join(dict.fromkeys(run["scene"] for run in runs))
    plot(path, lines, f"PSNR of {runs[0]['views']} held-out views (dB)", f"{scenes}: PSNR against seconds of training")
