"""``fieldmorph reproduce rate-distortion`` on a scene of a few small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldmorph.datasets.procedural import make_scene
from fieldmorph.scripts import cli


@pytest.mark.slow
def test_sweep_measures_every_kind_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_scene(tmp_path / "scene", train=6, val=1, test=2, size=24, seed=0, samples=1)
    out = tmp_path / "sweep"
    command = ["reproduce", "rate-distortion", str(tmp_path / "scene"), "--out", str(out)]
    command += ["--steps", "20", "--tables", "8", "--packed", "8"]
    assert cli.main(command) == 0
    rows = json.loads((out / "rows.json").read_text())
    plain, hollow = ([row for row in rows if row["kind"] == kind] for kind in ("plain", "hollow"))
    assert [row["step"] for row in plain] == [row["step"] for row in hollow] == [None, 3e-6, 8e-6, 2e-5, 5e-5]
    assert hollow[0]["parameters"] - plain[0]["parameters"] == 32**3, "the saliency grid is counted"
    report = (out / "report.md").read_text()
    assert "hollow 2^8" in report and "within 0.1 dB of plain 2^8" in report
    assert set(json.loads((out / "results.json").read_text())["seconds_per_picture"]) == {"plain-8", "hollow-8"}
    sizes = [row["bytes"] for row in plain]
    assert sizes == sorted(sizes, reverse=True), "coarser steps, smaller files"
    assert cli.main(command) == 2, "what is there is not overwritten"
    capsys.readouterr()
    assert cli.main([*command, "--resume"]) == 0
    assert json.loads((out / "rows.json").read_text()) == rows, "nothing is measured twice"
