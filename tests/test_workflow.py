"""The main job through the command line, on a tiny scene: make, train, score, render, describe, resume, interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import pytest

from fieldmorph.scripts import cli

SMALL = ("--set", "levels=4", "--set", "log2_table=12", "--set", "occupancy=32", "--samples", "2048")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("workflow") / "tiny scene"
    assert cli.main(["data", "make", str(out), "--size", "32", "--train", "8", "--val", "1", "--test", "2", "-q"]) == 0
    return out


@pytest.fixture(scope="module")
def run(scene: Path) -> Path:
    out = scene.parent / "run"
    assert cli.main(["train", str(scene), "--out", str(out), "--steps", "30", "--view-seconds", "0", *SMALL, "-q"]) == 0
    return out


def test_data_info(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "info", str(scene)]) == 0
    assert "8 train, 1 val, 2 test images, 32x32, with alpha" in capsys.readouterr().out
    assert cli.main(["data", "info", str(scene), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_train_says_what_it_does(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.main(["train", str(scene), "--out", str(out), "--steps", "3", "--view-seconds", "0", *SMALL]) == 0
    text = capsys.readouterr().out
    assert "8 train" in text
    assert "memory: images 32.8 kB + field " in text
    assert "train hashgrid: 3 steps" in text
    assert "loss" in text and "psnr" in text
    assert f"wrote {out / 'field.field'}" in text
    assert {"field.field", "config.yaml", "metrics.jsonl", "checkpoints"} <= {p.name for p in out.iterdir()}


def test_training_needs_a_flag_to_touch_a_run_again(run: Path, scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "field.field").read_bytes()
    assert cli.main(["train", str(scene), "--out", str(run), "--steps", "1"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (run / "field.field").read_bytes() == before


def test_a_resumed_run_keeps_its_settings(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.main(["train", str(scene), "--out", str(out), "--steps", "4", "--seed", "3", "--view-seconds", "0", *SMALL, "-q"]) == 0
    for wrong in (["--field", "vm"], ["--seed", "4"], ["--set", "levels=5"], ["--samples", "512"]):
        assert cli.main(["train", "--out", str(out), "--resume", *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err
    assert cli.main(["train", "--out", str(out), "--resume", "--steps", "6", "--seed", "3"]) == 0
    assert "after 6 steps" in capsys.readouterr().out


def test_eval(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    assert cli.main(["eval", str(run), "--json", str(file), "--images", str(tmp_path / "pictures")]) == 0
    assert "protocol:" in capsys.readouterr().out
    scores = json.loads(file.read_text())
    assert set(scores["mean"]) >= {"psnr", "ssim", "seconds", "lpips"}
    assert len(scores["images"]) == 2
    assert set(scores["images"][0]) >= {"name", "psnr", "ssim", "seconds"}
    assert scores["protocol"]["split"] == "test"
    assert scores["mean"]["psnr"] == pytest.approx(sum(i["psnr"] for i in scores["images"]) / 2)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    # The field file alone, found beside its run's config, and printed instead of written: the same numbers.
    assert cli.main(["eval", str(run / "field.field"), "--split", "test", "--json", "-"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [i["psnr"] for i in again["images"]] == [i["psnr"] for i in scores["images"]]


def test_eval_of_a_lone_field_asks_for_the_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone = tmp_path / "lone.field"
    lone.write_bytes((run / "field.field").read_bytes())
    assert cli.main(["eval", str(lone)]) == 2
    assert "--data" in capsys.readouterr().err


def test_eval_names_the_splits_there_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", str(run), "--split", "tset"]) == 2
    assert "test" in capsys.readouterr().err


def test_render_frames_and_resume(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures"
    arguments = ["render", str(run), "--out", str(out), "--path", "orbit", "--frames", "3", "--size", "21x17"]
    assert cli.main([*arguments, "--layer", "rgb", "--layer", "depth", "--layer", "normals", "--layer", "opacity", "--layer", "rgba"]) == 0
    for layer in ("rgb", "depth", "normals", "opacity", "rgba"):
        files = sorted((out / layer).glob("*.png"))
        assert [f.name for f in files] == ["00000.png", "00001.png", "00002.png"]
        assert iio.imread(files[0]).shape[:2] == (17, 21)
    single = tmp_path / "single"
    arguments[3] = str(single)
    assert cli.main(arguments) == 0
    (single / "00001.png").write_bytes(b"half a picture")
    kept = (single / "00000.png").stat().st_mtime_ns
    assert cli.main(arguments) == 2
    capsys.readouterr()
    assert cli.main([*arguments, "--resume"]) == 0
    assert "wrote 1 pictures" in capsys.readouterr().out
    assert (single / "00000.png").stat().st_mtime_ns == kept
    assert iio.imread(single / "00001.png").shape[:2] == (17, 21)


def test_rgb_beside_rgba_shows_the_background(run: Path, tmp_path: Path) -> None:
    common = ["render", str(run), "--path", "orbit", "--frames", "1", "--size", "16x16", "-q", "--out"]
    assert cli.main([*common, str(tmp_path / "one")]) == 0
    assert cli.main([*common, str(tmp_path / "two"), "--layer", "rgb", "--layer", "rgba"]) == 0
    one, two = iio.imread(tmp_path / "one" / "00000.png"), iio.imread(tmp_path / "two" / "rgb" / "00000.png")
    assert abs(one.astype(int) - two.astype(int)).max() <= 1


def test_render_film(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.mp4"
    arguments = ["render", str(run), "--out", str(film), "--frames", "4", "--fps", "4", "--size", "33x20"]
    assert cli.main(arguments) == 0
    assert iio.imread(film, plugin="pyav").shape == (4, 20, 34, 3)
    assert cli.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite", "-q"]) == 0


def test_render_the_datasets_cameras(run: Path, tmp_path: Path) -> None:
    assert cli.main(["render", str(run), "--out", str(tmp_path / "test"), "--path", "test", "-q"]) == 0
    assert [iio.imread(f).shape for f in sorted((tmp_path / "test").iterdir())] == [(32, 32, 3)] * 2


def test_render_knows_its_paths(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", str(run), "--out", str(tmp_path / "x"), "--path", "orbitt"]) == 2
    assert "orbit" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_info_of_a_field(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["family"] == "hashgrid"
    assert facts["options"]["levels"] == 4
    assert facts["bytes"] == (run / "field.field").stat().st_size
    assert 0 < facts["occupancy"]["occupied"] <= 1
    assert facts["history"]
    assert cli.main(["info", str(run / "field.field")]) == 0
    assert "family: hashgrid" in capsys.readouterr().out


def test_broken_fields_are_refused_in_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (run / "field.field").read_bytes()
    for name, content in (("empty", b""), ("half", whole[: len(whole) // 2]), ("noise", bytes(range(256)) * 8), ("json", b"{}")):
        bad = tmp_path / f"{name}.field"
        bad.write_bytes(content)
        for verb in (["info", str(bad)], ["render", str(bad), "--out", str(tmp_path / "out")], ["eval", str(bad)]):
            assert cli.main(verb) == 2
            error = capsys.readouterr().err
            assert error.startswith("fieldmorph: error: ") and error.count("\n") == 1 and bad.name in error
    assert not (tmp_path / "out").exists()


def test_another_dataset_is_noticed(run: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    assert cli.main(["data", "make", str(other), "--size", "32", "--train", "4", "--val", "1", "--test", "1", "--seed", "5", "-q"]) == 0
    assert cli.main(["eval", str(run), "--data", str(other)]) == 0
    assert "not, or no longer, the dataset" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child")
def test_ctrl_c_saves_and_the_run_continues(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "fieldmorph",
        "train",
        str(scene),
        "--out",
        str(out),
        "--seconds",
        "600",
        "--view-seconds",
        "0",
        *SMALL,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert f"fieldmorph train --resume --out {out}" in text
    assert cli.main(["info", str(out)]) == 0
    assert cli.main(["train", "--resume", "--out", str(out), "--steps", "1", "-q"]) == 0, "a budget already spent is done at once"


def test_demo(tmp_path: Path) -> None:
    """In a process of its own, outside the checkout, as a newcomer would."""
    command = [sys.executable, "-m", "fieldmorph", "demo", "--quick", "--out", "my demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "my demo"
    for name in ("comparison.png", "turntable.mp4", "demo.json", "run/field.field", "scene/transforms_train.json"):
        assert (out / name).exists(), name
    facts = json.loads((out / "demo.json").read_text())
    assert facts["psnr"] > 10
    assert "PSNR on views it has not seen" in done.stdout
    assert "\x1b" not in done.stdout
