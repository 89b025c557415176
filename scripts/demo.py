"""``fieldmorph demo``: the whole way from pictures to a field to pictures, in under three minutes on two cores."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .. import progress
from ..errors import UserError
from .data import write_scene
from .eval import report, run_evaluation
from .options import Compute, Talk, WarmUp, claim_folder, describe_scene, open_scene, start_folder, value, write_text
from .render import render_film
from .train import RUN_FILES, run_training

if TYPE_CHECKING:
    from ..datasets.scene import Scene
    from ..representations.field import Field

DEMO_FILES = ("turntable.mp4", "comparison.png", "demo.json")


@dataclass(frozen=True)
class Plan:
    """How large each part of the demo is."""

    size: int
    train: int
    test: int
    seconds: float
    frames: int
    fps: float
    film: int
    """Width and height of the turntable."""
    levels: int = 8
    log2_table: int = 17
    samples: int = 3


FULL = Plan(size=200, train=100, test=10, seconds=70.0, frames=60, fps=20.0, film=400)
QUICK = Plan(size=40, train=12, test=2, seconds=3.0, frames=6, fps=6.0, film=40, levels=4, log2_table=12, samples=1)


@dataclass(frozen=True, kw_only=True)
class Demo(Compute, Talk):
    """Make a scene, train a hash grid on it, score it, and render a turntable.

    Takes less than three minutes on two cores and prints what it measured and where the pictures are.
    """

    out: Annotated[Path, value("FOLDER", "demo")] = Path("demo")
    """Folder to write to."""
    quick: bool = False
    """Tiny pictures and a few seconds of training: shows that everything works, not how well."""
    seconds: Annotated[float | None, value("S", "70")] = None
    """Seconds of training."""
    seed: Annotated[int, value("K", "0")] = 0
    """Seed of all that is random."""
    overwrite: bool = False
    """Replace the demo that --out holds."""

    def run(self) -> int:
        self.talk()
        if self.seconds is not None and not 0 < self.seconds < 1e6:
            raise UserError(f"--seconds {self.seconds}: give a positive number")
        claim_folder(self.out, overwrite=self.overwrite)
        device = self.choose_device()
        plan = QUICK if self.quick else FULL
        data, run = self.out / "scene", self.out / "run"
        clock = Clock()
        for folder, ours in ((self.out, DEMO_FILES), (run, RUN_FILES)):
            start_folder(folder, ours if self.overwrite else ())
        warm_up = WarmUp("hashgrid", device)
        counts = {"train": plan.train, "val": 1, "test": plan.test}
        write_scene(data, counts, size=plan.size, seed=self.seed, samples=plan.samples, overwrite=self.overwrite)
        clock.lap("scene")

        from ..render.paths import camera_path
        from ..training import TrainOptions, load_run_or_field
        from ..training.evaluation import eval_settings

        scene = open_scene(data)
        progress.say(f"{data}: {describe_scene(scene)}")
        options = TrainOptions(
            seconds=self.seconds or plan.seconds,
            seed=self.seed,
            device=str(device),
            view_seconds=0.0,
            family_options={"levels": plan.levels, "log2_table": plan.log2_table},
        )
        warm_up.wait()
        clock.lap("preparation")
        code = run_training(scene, options, run)
        if code:
            return code
        clock.lap("training")

        field = load_run_or_field(run, device=str(device))
        scores = run_evaluation(field, scene, "test")
        report(scores, run)
        write_comparison(field, scene, self.out / "comparison.png")
        clock.lap("evaluation")

        cameras = [scene.cameras[i] for i in scene.split["train"]]
        path = camera_path("orbit", cameras, field.space, seconds=plan.frames / plan.fps, fps=plan.fps, size=(plan.film, plan.film))
        render_film(field, path, self.out / "turntable.mp4", eval_settings(field), ["rgb"])
        clock.lap("turntable")

        size = (run / "field.field").stat().st_size
        facts = {
            "psnr": scores.mean["psnr"],
            "ssim": scores.mean["ssim"],
            "seconds_per_picture": scores.mean["seconds"],
            "bytes": size,
            "seconds": {**clock.laps, "all": sum(clock.laps.values())},
            "plan": asdict(plan),
            "protocol": scores.protocol,
        }
        write_text(self.out / "demo.json", json.dumps(facts, indent=2) + "\n")
        self._table(facts)
        return 0

    def _table(self, facts: dict[str, Any]) -> None:
        plan = facts["plan"]
        seconds = facts["seconds"]
        progress.table(
            ("measured", "value"),
            [
                ("PSNR on views it has not seen", f"{facts['psnr']:.2f} dB"),
                ("SSIM", f"{facts['ssim']:.4f}"),
                (f"picture of {plan['size']}x{plan['size']}", f"{facts['seconds_per_picture']:.3f} s"),
                ("field file", progress.format_bytes(facts["bytes"])),
                *((name, progress.format_seconds(spent)) for name, spent in seconds.items()),
            ],
        )
        for name, meaning in (
            ("comparison.png", "photograph, field, depth"),
            ("turntable.mp4", "film around the scene"),
            ("run/field.field", "the field; look closer with: fieldmorph info"),
        ):
            progress.say(f"{self.out / name}: {meaning}")


class Clock:
    """Wall time of each part."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now


def write_comparison(field: Field, scene: Scene, path: Path) -> None:
    """The first test photograph, the field's view of it, and its depth, side by side."""
    import numpy as np

    from ..render.images import picture, save_image, to_bytes
    from ..render.renderer import render_image
    from ..training.evaluation import eval_settings, ground_truth

    index = scene.split["test"][0]
    settings = eval_settings(field, scene)
    grey = {"white": 1.0, "black": 0.0}.get(settings.background)
    rendering = render_image(field, scene.cameras[index], settings)
    panels = [to_bytes(ground_truth(scene, index, grey)), picture(rendering, "rgb"), picture(rendering, "depth")]
    save_image(path, np.concatenate(panels, 1))
