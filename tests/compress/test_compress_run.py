"""``compress_field``: what a program with a field in memory calls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fieldmorph.compress.pack import PackOptions, Report
from fieldmorph.compress.run import compress_field
from fieldmorph.compress.search import Goal
from fieldmorph.kernels.cancel import CancelFlag, Cancelled
from fieldmorph.representations.field import Field


def test_progress_is_told_and_the_field_stays_as_it_is(field: Field, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in field.state_dict().items()}
    heard: list[Report] = []
    packed = compress_field(field, tmp_path / "p.field", PackOptions(Goal(size=9000), keep=0.3, steps=20), follow=heard.append)
    assert (tmp_path / "p.field").stat().st_size == packed.size <= 9000
    assert all(torch.equal(tensor, before[name]) for name, tensor in field.state_dict().items())
    stages = list(dict.fromkeys(report.stage for report in heard))
    assert stages == ["prune", "sensitivity", "search", "train rounded"]
    for stage in ("prune", "train rounded"):
        steps = [report for report in heard if report.stage == stage]
        assert [report.count for report in steps] == list(range(1, 11)), "half of the steps each"
        assert steps[-1].done == steps[-1].total
    assert packed.field.family == "hashgrid" and packed.parameters == sum(p.numel() for p in field.parameters())


@pytest.mark.parametrize("stage", ["sensitivity", "search", "train rounded"])
def test_cancelled_leaves_nothing(field: Field, tmp_path: Path, stage: str) -> None:
    flag = CancelFlag()

    def follow(report: Report) -> None:
        if report.stage == stage:
            flag.set()
        if flag():
            raise Cancelled

    with pytest.raises(Cancelled):
        compress_field(field, tmp_path / "p.field", PackOptions(Goal(drop=0.5), steps=10), follow=follow)
    assert not list(tmp_path.iterdir())
