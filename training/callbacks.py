"""What watches a run: logs, checkpoints, pictures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from ..datasets.scene import Scene
from ..render.images import save_image
from ..render.renderer import render_image
from .checkpoint import save_checkpoint
from .evaluation import eval_settings, ground_truth
from .metrics import mse_to_psnr, psnr
from .trainer import StepStats, Trainer


class MetricsLog:
    """``metrics.jsonl`` and TensorBoard scalars, every ``every`` steps and where a stage begins.

    A resumed run drops lines of steps it will repeat.
    """

    def __init__(self, run: Path, first_step: int, every: int = 50) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.path, self.every = run / "metrics.jsonl", every
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _step_of(line) <= first_step]
            self.path.write_text("".join(line + "\n" for line in kept))
        self.file = open(self.path, "a", buffering=1)  # noqa: SIM115 - lives as long as the run
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
        self._squares, self._count, self._stage = 0.0, 0, ""

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        self._squares += stats.mse
        self._count += 1
        if stats.step % self.every and stats.stage == self._stage:
            return
        self._stage = stats.stage
        row = {
            "step": stats.step,
            "seconds": round(trainer.budget.elapsed, 3),
            "loss": stats.loss,
            "psnr": mse_to_psnr(self._squares / self._count),
            "rays": stats.rays,
            "samples": stats.samples,
            "rate": stats.rate,
            **({"stage": stats.stage} if stats.stage else {}),
            **{f"loss_{name}": term for name, term in stats.terms.items()},
        }
        self._squares, self._count = 0.0, 0
        self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(row) + "\n")
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        self.file.close()
        self.board.close()


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # half a line from a killed process: drop it


class Checkpoints:
    """Save after every ``seconds`` of training or ``steps`` steps."""

    def __init__(self, run: Path, seconds: float, steps: int | None) -> None:
        self.run, self.seconds, self.steps = run, seconds, steps
        self._last: float | None = None

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        now = trainer.budget.elapsed
        if self._last is None:
            self._last = now
        due = now - self._last >= self.seconds or (self.steps is not None and stats.step % self.steps == 0)
        if due:
            self.save(trainer)

    def save(self, trainer: Trainer) -> Path:
        tensors, facts = trainer.state()
        self._last = trainer.budget.elapsed
        return save_checkpoint(self.run, trainer.field, trainer.budget.step, tensors, facts)


class HeldOutView:
    """A held-out view rendered now and then: its picture in ``views/``, its PSNR in the log."""

    def __init__(self, run: Path, scene: Scene, split: str, seconds: float, log: MetricsLog, longest: int = 400) -> None:
        self.folder, self.scene, self.seconds, self.log = run / "views", scene, seconds, log
        self.index = scene.split[split][0]
        camera = scene.cameras[self.index]
        shrink = max(1, -(-max(camera.width, camera.height) // longest))
        self.camera = camera.resized(camera.width // shrink, camera.height // shrink)
        self._last = 0.0
        self.psnr: float | None = None

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        now = trainer.budget.elapsed
        if now - self._last < self.seconds:
            return
        self._last = now
        self.render(trainer, stats.step)

    def render(self, trainer: Trainer, step: int) -> None:
        settings = eval_settings(trainer.field, self.scene)
        start = time.perf_counter()
        with torch.no_grad():
            image = render_image(trainer.field, self.camera, settings).rgb.clamp(0, 1).cpu()
        grey = {"white": 1.0, "black": 0.0}.get(settings.background)
        target = ground_truth(self.scene, self.index, grey)
        if target.shape != image.shape:
            target = torch.nn.functional.interpolate(target.permute(2, 0, 1)[None], size=image.shape[:2], mode="area")[0].permute(1, 2, 0)
        self.psnr = psnr(image, target)
        self.folder.mkdir(exist_ok=True)
        save_image(self.folder / f"step-{step:08d}.png", image)
        self.log.write(
            {"step": step, "seconds": round(trainer.budget.elapsed, 3), "view_psnr": self.psnr, "view_seconds": time.perf_counter() - start}
        )
