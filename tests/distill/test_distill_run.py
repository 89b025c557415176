"""A distillation as a run: it resumes bit for bit, reports, and refuses nonsense in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from distill_cases import SMALL, ball, options

from fieldmorph.distill import distill_field, read_distill_config
from fieldmorph.errors import UserError
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, save_field
from fieldmorph.scripts import cli
from fieldmorph.training.checkpoint import checkpoints
from fieldmorph.training.trainer import StepStats, Trainer

TINY = [f"{key}={value}" for key, value in SMALL["hashgrid"].items()]


def same(a: Field, b: Field) -> None:
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


@pytest.mark.parametrize("inherit", [True, False])
def test_killed_and_resumed_equals_uninterrupted(inherit: bool, tmp_path: Path) -> None:
    """What a kill leaves is the newest whole checkpoint; here the one in the middle, when all memories are full."""
    wanted = options("hashgrid", steps=120, checkpoint_steps=90, inherit=inherit, samples=1024)
    whole = distill_field(ball(), wanted, tmp_path / "whole")
    last = checkpoints(tmp_path / "whole")[-1]
    shutil.copytree(tmp_path / "whole", tmp_path / "killed", ignore=shutil.ignore_patterns(last.name, "*.field.tmp"))
    (tmp_path / "killed" / "field.field").unlink()
    assert [c.name for c in checkpoints(tmp_path / "killed")] == ["step-00000090"]
    rest = distill_field(ball(), wanted, tmp_path / "killed", resume=True)
    assert rest.finished and rest.step == 120
    same(whole.field, rest.field)
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    wanted = options("vm", steps=40)

    def stop(trainer: Trainer, stats: StepStats) -> None:
        trainer.stop = stats.step == 20

    whole = distill_field(ball(), wanted, tmp_path / "whole")
    half = distill_field(ball(), wanted, tmp_path / "half", callbacks=[stop])
    assert not half.finished and half.step == 20
    same(whole.field, distill_field(ball(), wanted, tmp_path / "half", resume=True).field)


def test_the_verb_converts_reports_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_field(ball(), tmp_path / "ball.field")
    out = tmp_path / "run"
    command = ["distill", str(tmp_path / "ball.field"), "--to", "hashgrid", "--out", str(out), "--steps", "30", "--samples", "1024"]
    for setting in TINY:
        command += ["--set", setting]
    assert cli.main([*command, "--active-rays", "off"]) == 0
    for name in ("field.field", "report.md", "psnr.png", "losses.png", "config.yaml", "metrics.jsonl"):
        assert (out / name).stat().st_size > 0, name
    text = (out / "report.md").read_text()
    assert "voxels to hashgrid" in text and "| points |" in text and "student to teacher" in text
    assert load_field(out / "field.field").metadata["history"] == ["ball", "distilled to hashgrid"]
    teacher, data, recorded = read_distill_config(out)
    assert (teacher, data) == (tmp_path / "ball.field", None) and recorded.active_rays is False and recorded.active_images is True
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any("agreement_psnr" in row for row in rows)
    assert list((out / "views").glob("*.png"))
    assert cli.main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["distill", "--resume", "--out", str(out), "--active-rays", "on"]) == 2
    assert "active_rays" in capsys.readouterr().err
    assert cli.main(["distill", "--resume", "--out", str(out), "--steps", "32", "-q"]) == 0


def test_nonsense_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_field(ball(), tmp_path / "ball.field")
    teacher, out = str(tmp_path / "ball.field"), str(tmp_path / "run")
    for command, word in (
        (["distill", "--out", out], "TEACHER"),
        (["distill", str(tmp_path / "none.field"), "--out", out], "none.field"),
        (["distill", teacher, "--to", "hashgrit", "--out", out], "hashgrit"),
        (["distill", teacher, "--out", out, "--steps", "1", "--seconds", "1"], "not both"),
        (["distill", teacher, "--out", out, "--photographs", "0.5"], "--data"),
        (["distill", teacher, "--out", out, "--photographs", "1.5", "--steps", "1"], "--photographs"),
        (["distill", teacher, "--out", out, "--rate", "-1"], "--rate"),
        (["distill", teacher, "--out", out, "--set", "nonsense=1"], "nonsense"),
    ):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("fieldmorph: error: ") and error.count("\n") == 1 and word in error, command
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_training_run_is_no_distillation(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: /somewhere\nfield: vm\n")
    with pytest.raises(UserError, match="fieldmorph train --resume"):
        read_distill_config(tmp_path)
    (tmp_path / "config.yaml").write_text("teacher: x\ndata: null\nto: vm\nstage_rates: 3\n")
    with pytest.raises(UserError, match=r"config\.yaml"):
        read_distill_config(tmp_path)
