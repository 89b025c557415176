"""Branches of a hybrid that learn from teachers of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distill_cases import SMALL, ball, options

from fieldmorph.distill import distill_field
from fieldmorph.distill.agreement import agreement
from fieldmorph.distill.fusion import parse_branches
from fieldmorph.errors import UserError
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, save_field
from fieldmorph.representations.hybrid import HybridField
from fieldmorph.scripts import cli
from fieldmorph.training.trainer import StepStats, Trainer

SIZES = {**SMALL["hybrid"], "branches": ("hashgrid", "vm")}


def grey_ball() -> Field:
    """The ball without its colours."""
    field = ball()
    with torch.no_grad():
        field.sh_data.zero_()
    return field


def test_a_branch_learns_its_own_teacher_and_stays_while_the_other_learns_the_rest(tmp_path: Path) -> None:
    save_field(grey_ball(), tmp_path / "grey.field")
    wanted = options("hybrid", steps=240, samples=1024, family_options=SIZES, branch=(f"vm={tmp_path / 'grey.field'}",))
    result = distill_field(ball(), wanted, tmp_path / "run")
    assert result.step == 180, "a quarter of the budget went to the branch"
    base = load_field(tmp_path / "run" / "branches" / "1-vm" / "field.field")
    made = result.field
    assert isinstance(base, HybridField) and isinstance(made, HybridField)
    assert base.options.branches == ("vm",) and made.options.branches == ("hashgrid", "vm")
    for name, tensor in base.encoder.branches[0].state_dict().items():
        assert torch.equal(made.encoder.branches[1].state_dict()[name], tensor), f"{name} was learned again"
    assert agreement(base, grey_ball()) > agreement(base, ball()) + 3.0, "the base shows its own teacher"
    assert agreement(made, ball()) > agreement(base, ball()) + 6.0, "the other branch adds what the main teacher shows besides"


def test_a_stopped_fusion_goes_on_where_it_was(tmp_path: Path) -> None:
    save_field(grey_ball(), tmp_path / "grey.field")
    wanted = options("hybrid", steps=80, samples=1024, family_options=SIZES, branch=(f"vm={tmp_path / 'grey.field'}",))
    whole = distill_field(ball(), wanted, tmp_path / "whole")
    for stop_at, part in ((10, 0), (30, 1)):  # in the branch's run, then in the main one
        seen: list[Trainer] = []

        def stop(trainer: Trainer, stats: StepStats, at: int = stop_at, part: int = part, seen: list[Trainer] = seen) -> None:
            if trainer not in seen:
                seen.append(trainer)
            trainer.stop = len(seen) == part + 1 and stats.step == at

        out = tmp_path / f"stopped-{part}"
        assert not distill_field(ball(), wanted, out, callbacks=[stop]).finished
        rest = distill_field(ball(), wanted, out, resume=True)
        assert rest.finished
        for name, tensor in whole.field.state_dict().items():
            assert torch.equal(rest.field.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("to", "kinds", "branch", "said"),
    [
        ("vm", None, ("vm=a.field",), "for hybrids"),
        ("hybrid", ("vm", "hashgrid"), ("cp=a.field",), "vm, hashgrid"),
        ("hybrid", ("vm", "hashgrid"), ("vm",), "KIND=FIELD"),
        ("hybrid", ("vm", "hashgrid"), ("vm=a.field", "hashgrid=b.field"), "none to learn"),
    ],
)
def test_nonsense_is_refused(to: str, kinds: tuple[str, ...] | None, branch: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_branches(options(to, family_options={} if kinds is None else {"branches": kinds}, branch=branch))


def test_the_verb_takes_branches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_field(grey_ball(), tmp_path / "grey.field")
    save_field(ball(), tmp_path / "ball.field")
    out = tmp_path / "run"
    command = ["distill", str(tmp_path / "ball.field"), "--to", "hybrid", "--out", str(out), "--steps", "40", "--samples", "512", "-q"]
    for name, number in SIZES.items():
        command += ["--set", f"{name}={','.join(number) if isinstance(number, tuple) else number}"]
    assert cli.main([*command, "--branch", f"vm={tmp_path / 'absent.field'}"]) == 2
    assert "absent.field" in capsys.readouterr().err and not out.exists()
    assert cli.main([*command, "--branch", f"vm={tmp_path / 'grey.field'}"]) == 0
    assert (out / "report.md").exists() and (out / "branches" / "1-vm" / "field.field").exists()
    assert cli.main(["distill", "--resume", "--out", str(out), "-q"]) == 0
