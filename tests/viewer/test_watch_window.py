"""`train --view` and `distill --view` as one types them: a window on the run, Ctrl-C saves, closing it lets the run go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from session import PATIENCE, Screen


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene") / "made"
    flags = ["--size", "32", "--train", "8", "--val", "1", "--test", "1"]
    subprocess.run([sys.executable, "-m", "fieldmorph", "data", "make", str(folder), *flags], check=True, capture_output=True)
    return folder


def watched(screen: Screen, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """A verb with ``--view``, once its window shows more than one colour per panel."""
    from PIL import ImageGrab

    env = {**os.environ, "DISPLAY": screen.display, "XDG_CONFIG_HOME": str(folder)}
    command = [sys.executable, "-m", "fieldmorph", *map(str, arguments), "--view"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE and process.poll() is None:
        image = np.asarray(ImageGrab.grab(xdisplay=screen.display).convert("RGB"))
        if len(np.unique(image.reshape(-1, 3), axis=0)) > 100:
            return process
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"no window with a picture: {process.communicate()[0]}")


def end_of(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert "Traceback" not in output, output
    return output


def test_training_under_a_window_saves_at_ctrl_c(empty_screen: Screen, scene: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = watched(empty_screen, tmp_path, "train", scene, "--field", "voxels", "--out", run, "--seconds", 3600)
    process.send_signal(signal.SIGINT)
    output = end_of(process)
    assert process.returncode == 130, output
    assert (run / "field.field").exists()
    assert list((run / "checkpoints").glob("step-*"))


def test_distilling_goes_on_when_the_window_is_closed(empty_screen: Screen, field_files: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = watched(empty_screen, tmp_path, "distill", field_files[0], "--to", "voxels", "--out", run, "--seconds", 12)
    quit_keys = ["mousemove", "300", "300", "keydown", "ctrl", "keydown", "q", "sleep", "0.3", "keyup", "q", "keyup", "ctrl"]
    find = ["xdotool", "search", "--onlyvisible", "--name", "fieldmorph"]
    env = {**os.environ, "DISPLAY": empty_screen.display}
    begin = time.monotonic()
    while subprocess.run(find, env=env, capture_output=True).returncode == 0 and time.monotonic() - begin < PATIENCE:
        subprocess.run(["xdotool", *quit_keys], env=env, check=True, capture_output=True)
        time.sleep(0.2)
    output = end_of(process)
    assert process.returncode == 0, output
    assert "the window is closed, the run goes on" in output
    assert (run / "field.field").exists()
