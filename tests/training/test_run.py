"""A run as a whole: it learns, resumes bit for bit, survives kill -9 and Ctrl-C, and refuses nonsense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmorph.datasets.scene import Scene
from fieldmorph.errors import UserError
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field
from fieldmorph.training import TrainOptions, evaluate, load_run_or_field, read_config, train
from fieldmorph.training.checkpoint import checkpoints
from fieldmorph.training.recipes import recipe_for
from fieldmorph.training.trainer import StepStats, Trainer

SMALL = TrainOptions(
    field="hashgrid",
    steps=60,
    seed=3,
    samples=2048,
    view_seconds=0,
    device="cpu",
    family_options={"levels": 4, "features": 2, "log2_table": 10, "finest": 64, "hidden": 16, "occupancy": 32},
)


def same(a: Field, b: Field) -> None:
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


class StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, trainer: Trainer, stats: StepStats) -> None:
        if stats.step == self.step:
            trainer.stop = True


def test_training_learns_the_ball(ball_scene: Scene, tmp_path: Path) -> None:
    result = train(ball_scene, replace(SMALL, steps=200), tmp_path / "run")
    assert result.finished and result.step == 200
    trained = evaluate(load_run_or_field(tmp_path / "run"), ball_scene)
    assert trained.mean["psnr"] > 20.0
    assert len(trained.images) == 2 and trained.protocol["background"] == "white"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 200 and rows[-1]["psnr"] > rows[0]["psnr"]


def test_batches_grow_to_the_end_of_the_budget(ball_scene: Scene, tmp_path: Path) -> None:
    seen: list[int] = []
    train(ball_scene, replace(SMALL, steps=200), tmp_path / "run", callbacks=[lambda trainer, stats: seen.append(stats.samples)])
    middle, end = np.mean(seen[95:105]), np.mean(seen[-10:])
    growth = recipe_for("hashgrid").growth
    assert growth > 2.0
    assert 0.7 * SMALL.samples * growth < end < 1.4 * SMALL.samples * growth
    assert 0.7 * SMALL.samples * growth**0.5 < middle < 1.4 * SMALL.samples * growth**0.5


def test_stopped_and_resumed_equals_uninterrupted(ball_scene: Scene, tmp_path: Path) -> None:
    whole = train(ball_scene, SMALL, tmp_path / "whole")
    half = train(ball_scene, SMALL, tmp_path / "half", callbacks=[StopAt(30)])
    assert not half.finished and half.step == 30
    rest = train(ball_scene, SMALL, tmp_path / "half", resume=True)
    assert rest.finished and rest.step == 60
    same(whole.field, rest.field)
    lines = (tmp_path / "half" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == sorted({json.loads(line)["step"] for line in lines})


def test_killed_and_resumed_equals_uninterrupted(ball: Path, tmp_path: Path) -> None:
    """As a user meets it: three processes, of which the second is killed and the third goes on where it was."""
    verb = [sys.executable, "-m", "fieldmorph", "train"]
    command = [*verb, str(ball), "--field", "hashgrid", "--steps", "400", "--seed", "3", "--samples", "2048", "--checkpoint-steps", "20"]
    for name, number in SMALL.family_options.items():
        command += ["--set", f"{name}={number}"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True, timeout=300)
    process = subprocess.Popen([*command, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoints(run) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoints(run), "the child wrote no checkpoint before it was killed"
    assert not (run / "field.field").exists(), "the child finished before it was killed"
    subprocess.run([*verb, "--resume", "--out", str(run)], check=True, capture_output=True, timeout=300)
    ends = [checkpoints(folder)[-1] for folder in (whole, run)]
    assert [end.name for end in ends] == ["step-00000400"] * 2
    same(*(load_field(end / "field.field") for end in ends))


def test_interrupt_saves_and_says_unfinished(ball_scene: Scene, tmp_path: Path) -> None:
    def interrupt(trainer: Trainer, stats: StepStats) -> None:
        if stats.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    result = train(ball_scene, replace(SMALL, steps=1000), tmp_path / "run", callbacks=[interrupt])
    assert not result.finished and 5 <= result.step <= 7
    assert checkpoints(tmp_path / "run") and result.path.exists()


def test_a_step_zero_run_saves_a_usable_field(ball_scene: Scene, tmp_path: Path) -> None:
    result = train(ball_scene, replace(SMALL, steps=0), tmp_path / "run")
    assert result.finished and result.step == 0
    assert evaluate(load_run_or_field(result.path), ball_scene, limit=1).mean["psnr"] > 3.0


def test_saved_field_scores_as_evaluated_again(ball_scene: Scene, tmp_path: Path) -> None:
    result = train(ball_scene, SMALL, tmp_path / "run")
    first = evaluate(load_run_or_field(result.path), ball_scene).mean["psnr"]
    assert evaluate(load_run_or_field(tmp_path / "run"), ball_scene).mean["psnr"] == pytest.approx(first, abs=1e-4)


def test_config_round_trip_and_mangled_config(ball_scene: Scene, tmp_path: Path) -> None:
    train(ball_scene, replace(SMALL, steps=1), tmp_path / "run")
    data, options = read_config(tmp_path / "run")
    assert data == ball_scene.root and options == replace(SMALL, steps=1)
    (tmp_path / "run" / "config.yaml").write_text("data: [1\n")
    with pytest.raises(UserError, match=r"config\.yaml"):
        read_config(tmp_path / "run")
    with pytest.raises(UserError, match="not a run folder"):
        read_config(tmp_path)


def test_an_existing_checkpoint_is_not_overwritten_silently(ball_scene: Scene, tmp_path: Path) -> None:
    train(ball_scene, replace(SMALL, steps=1), tmp_path / "run")
    with pytest.raises(UserError, match="--resume"):
        train(ball_scene, replace(SMALL, steps=1), tmp_path / "run")


def test_broken_checkpoint_falls_back_to_the_one_before(ball_scene: Scene, tmp_path: Path) -> None:
    whole = train(ball_scene, SMALL, tmp_path / "whole")
    train(ball_scene, replace(SMALL, checkpoint_steps=20), tmp_path / "run", callbacks=[StopAt(45)])
    newest = checkpoints(tmp_path / "run")[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    rest = train(ball_scene, SMALL, tmp_path / "run", resume=True)
    same(whole.field, rest.field)


def test_unknown_device_and_family_are_sentences(ball_scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--device"):
        train(ball_scene, replace(SMALL, device="warp9"), tmp_path / "a")
    with pytest.raises(UserError, match="hashgrit"):
        train(ball_scene, replace(SMALL, field="hashgrit"), tmp_path / "b")
