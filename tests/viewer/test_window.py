"""The real window on a virtual screen: mouse and keyboard in, pixels of the screen out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from session import BLUE, GREEN, PATIENCE, RED, WHITE, Screen, Session, share


def test_first_picture(window: Session) -> None:
    image = window.grab()
    assert share(image, RED, 0.0, 0.5) > 0.05
    assert share(image, BLUE, 0.5, 1.0) > 0.05
    assert share(image, RED, 0.5, 1.0) < 0.01
    assert share(image, WHITE) > 0.5


def test_a_picture_is_on_the_screen_with_the_next_frame_and_stays(window: Session) -> None:
    """Also one of a size that was never shown; Dear PyGui's changing textures would be late, and blank in their second frame."""
    window.ask("setattr(window.engine, 'paused', True)")
    for size, color in ((40, (0.1, 0.8, 0.1)), (56, (0.9, 0.1, 0.1)), (56, (0.1, 0.2, 0.9))):
        rgba = f"np.full(({size}, {size}, 4), (*{color}, 1.0), np.float32)"
        window.ask(f"window.view.show(dataclasses.replace(window.displayed, rgba={rgba}))")
        for _ in range(3):
            image = window.grab()
            assert share(image, tuple(round(255 * value) for value in color)) > 0.9  # type: ignore[arg-type]
    assert window.ask("len(gui.get_item_children(window.view.textures.registry, 1))") == 2
    window.ask("[setattr(window.engine, 'paused', False), window.model.touch()]")
    window.settle()


def test_the_pointer_is_known_between_frames(window: Session) -> None:
    x, y = window.at(0.3, 0.6)
    left, top = window.origin()
    subprocess.run(["xdotool", "mousemove", str(x), str(y)], env=window.env, check=True, timeout=PATIENCE)
    assert window.ask("importlib.import_module('fieldmorph.viewer.pointer').now()") == [x - left, y - top]


def test_dragging_orbits(window: Session) -> None:
    """Half a turn: what was on the left is on the right."""
    for _ in range(2):
        window.drag((0.2, 0.85), (0.8, 0.85))
    window.ask("window.model.navigator.orbit(1.0 - 2 * 0.6 * window.view_size[0] / window.view_size[1], 0.0)")
    window.ask("window.model.touch()")
    window.settle()
    image = window.grab()
    assert share(image, BLUE, 0.0, 0.5) > 0.05
    assert share(image, RED, 0.5, 1.0) > 0.05


def test_wheel_and_pan(window: Session) -> None:
    before = share(window.grab(), RED)
    window.do("mousemove", *window.at(0.5, 0.5))
    for _ in range(3):
        window.do("click", 4)
    window.until("window.model.navigator.view_index is None")
    window.settle()
    larger = share(window.grab(), RED)
    assert larger > 1.2 * before
    window.drag((0.5, 0.5), (0.95, 0.5), button=2)
    window.settle()
    assert share(window.grab(), RED, 0.5, 1.0) > 0.05


def test_keys_fly_step_and_switch_modes(window: Session) -> None:
    start = window.ask("window.model.navigator.position.tolist()")
    window.do("mousemove", *window.at(0.5, 0.5))
    window.do("keydown", "w")
    window.until(f"np.linalg.norm(window.model.navigator.position - np.array({start})) > 0.1")
    window.do("keyup", "w")
    window.until("not window.controls.moving")
    window.key("bracketright")
    window.until("window.model.navigator.view_index is not None")
    window.key("3")
    window.until("window.model.look.mode == 'normals'")
    window.settle()
    image = window.grab()
    assert share(image, RED) < 0.02
    window.key("1")
    window.until("window.model.look.mode == 'color'")


def test_double_click_sets_the_focus(window: Session) -> None:
    window.do("mousemove", *window.at(0.36, 0.55))
    window.ask("None")
    window.do("click", "--repeat", 2, "--delay", 60, 1)
    window.until("window.model.navigator.focus[0] < -0.1")
    window.settle()
    image = window.grab()
    height, width = image.shape[:2]
    assert np.abs(image[height // 2, width // 2].astype(int) - RED).max() < 45


def test_crop_hides(window: Session) -> None:
    window.ask("window.model.set_crop(((0.0, -1.0, -1.0), (1.0, 1.0, 1.0)))")
    window.settle()
    image = window.grab()
    assert share(image, RED) < 0.005
    assert share(image, BLUE) > 0.02


def test_crop_handle_is_dragged_on_the_picture(window: Session) -> None:
    window.ask("window.model.set_crop(((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)))")
    window.settle()
    place = "[h.place for h in window.overlays._handles if (h.axis, h.side) == (0, 0)][0]"
    window.until("len(window.overlays._handles) == 6")
    x, y = window.ask(place)
    width, height = window.ask("window.view_size")
    window.drag((x / width, y / height), (0.5, y / height))
    window.settle()
    assert abs(window.ask("window.model.crop[0][0]")) < 0.2
    image = window.grab()
    assert share(image, RED) < 0.005
    assert share(image, BLUE) > 0.02


def test_wipe_shows_both_and_follows_the_mouse(window: Session) -> None:
    window.ask("[window.model.compare('wipe', 'field'), window.model.navigator.to_view(0), window.model.touch()]")
    window.settle()
    assert share(window.grab(), RED, 0.0, 0.5) > 0.05
    window.drag((0.5, 0.1), (0.02, 0.1))
    window.until("window.model.comparison.wipe < 0.05")
    window.settle()
    assert share(window.grab(), GREEN, 0.0, 0.5) > 0.05
    window.ask("window.model.compare('side', 'field')")
    window.settle()
    image = window.grab()
    assert share(image, RED, 0.0, 0.5) > 0.02
    assert share(image, GREEN, 0.5, 1.0) > 0.02


def test_resizing_the_window_resizes_the_picture(window: Session) -> None:
    before = window.ask("window.view_size")
    window.ask("[gui.set_viewport_width(820), gui.set_viewport_height(500)]")
    window.until(f"window.view_size[0] > {before[0]} + 100")
    window.settle()
    size = window.ask("window.view_size")
    assert window.ask("window.engine.shown.rgba.shape[:2]") == [size[1], size[0]]
    assert share(window.grab(), RED) > 0.02
    window.ask("[gui.set_viewport_width(680), gui.set_viewport_height(440)]")
    window.until(f"window.view_size == {tuple(before)}")


@pytest.fixture
def scaled(empty_screen: Screen, field_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("FIELDMORPH_UI_SCALE", "2")
    session = Session(empty_screen, tmp_path, field_files, width=510, height=370)
    yield session
    assert session.close() == 0


def test_a_scaled_window_is_laid_out_as_the_usual_one(scaled: Session) -> None:
    """Twice the pixels: letters and panels are twice as large, nothing lies outside, however the window is pulled."""
    assert scaled.ask("(gui.get_viewport_width(), gui.get_viewport_height())") == [1020, 740]
    items = "[tag for panel in window.panels if panel.is_open for tag in vars(panel).values() if type(tag) is int]"
    shown = f"[tag for tag in {items} if gui.does_item_exist(tag) and gui.is_item_visible(tag) and 'rect_min' in gui.get_item_state(tag)]"
    edges = f"[(gui.get_item_rect_min(tag)[0], gui.get_item_rect_max(tag)[0]) for tag in {shown}]"
    assert scaled.ask("(gui.get_viewport_min_width(), gui.get_viewport_min_height())") == [960, 720]
    for width, height in ((1020, 740), (1000, 600), (960, 720)):
        scaled.ask(f"[gui.set_viewport_width({width}), gui.set_viewport_height({height})]")
        for _ in range(5):
            scaled.ask("None")
        client = scaled.ask("(gui.get_viewport_client_width(), gui.get_viewport_client_height())")
        assert client == [width, height]  # no frame is drawn around windows here
        left, top = scaled.ask("window.view.place")
        across, tall = scaled.ask("window.view_size")
        start = scaled.ask("gui.get_item_pos(window.side)[0]")
        end = start + scaled.ask("gui.get_item_width(window.side)")
        assert 0 <= left < left + across <= start < end <= client[0]
        assert end - start == 2 * 356
        assert across >= 160
        assert top + tall + 2 * 20 <= client[1]  # the status line is below
        found = scaled.ask(edges)
        assert len(found) >= 3
        assert all(start <= begin < stop <= end for begin, stop in found)
    assert scaled.ask("gui.get_text_size('M')[1]") >= 26
    scaled.settle()
    assert share(scaled.grab(), RED) > 0.01


def test_a_failed_render_says_its_sentence(window: Session) -> None:
    window.ask("window.model.compare('wipe', 'photograph')")
    window.until("window.failure")
    window.ask("None")
    assert share(window.grab(), WHITE) < 0.1
    window.ask("window.model.compare('single')")
    window.settle()
    assert share(window.grab(), WHITE) > 0.5


def test_open_dialog_opens_a_typed_path(window: Session, field_files: list[Path]) -> None:
    window.key("ctrl+o")
    window.until("window.dialogs.is_open")
    window.ask("None")
    window.do("type", "--delay", 30, str(field_files[1]))
    window.do("key", "Return")
    window.until("len(window.model.entries) == 3")
    assert window.ask("window.model.entry.name") == "green (2)"
    window.ask("window.model.remove(2)")


def test_screenshot_beside_the_window(window: Session) -> None:
    window.ask("window.files.screenshot(folder / 'shot.png', 200, 150, 2)")
    window.until("not window.jobs")
    from PIL import Image

    image = np.asarray(Image.open(window.folder / "shot.png"))
    assert image.shape == (150, 200, 3)
    assert share(image, RED) > 0.02


def test_command_line_opens_a_window_and_ctrl_c_ends_it(empty_screen: Screen, field_files: list[Path], tmp_path: Path) -> None:
    screen = empty_screen
    env = {**os.environ, "DISPLAY": screen.display, "XDG_CONFIG_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "fieldmorph", "view", str(field_files[0]), "--size", "500x400"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    find = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^fieldmorph$"]
    subprocess.run(find, env=env, check=True, capture_output=True, timeout=PATIENCE)
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "Traceback" not in output


def test_without_a_display_the_command_says_how_to_go_on(field_files: list[Path], tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run([sys.executable, "-m", "fieldmorph", "view", str(field_files[0])], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--screenshot" in done.stderr
    assert "Traceback" not in done.stderr
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-m", "fieldmorph", "view", *map(str, field_files), "--screenshot", str(picture), "--size", "80x40"]
    done = subprocess.run([*command, "--samples", "1", "--camera", "1"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    from PIL import Image

    image = np.asarray(Image.open(picture))
    assert image.shape == (40, 80, 3)
    assert share(image, RED, 0.0, 0.5) > 0.02
    assert share(image, GREEN, 0.5, 1.0) > 0.02
