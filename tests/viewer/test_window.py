"""The real window on a virtual screen: mouse and keyboard in, pixels of the screen out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from session import PATIENCE, Screen, Session, needs_window

from fieldmorph.viewer.engine import Comparison

RED, GREEN, BLUE, WHITE = (230, 26, 26), (26, 204, 26), (26, 51, 230), (255, 255, 255)


@pytest.fixture(scope="module")
def screen() -> Iterator[Screen]:
    needs_window()
    found = Screen()
    yield found
    found.close()


@pytest.fixture(scope="module")
def viewer(screen: Screen, field_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = Session(screen, tmp_path_factory.mktemp("viewer"), field_files)
    yield session
    assert session.close() == 0


@pytest.fixture
def window(viewer: Session) -> Session:
    """The window as it starts, at the first training camera."""
    viewer.do("mousemove", 1, 1)
    viewer.ask("[window.dialogs.close(), window.model.compare('single'), window.model.set_crop(None), window.model.activate(0)]")
    viewer.ask(f"setattr(window.model, 'comparison', type(window.model.comparison)({Comparison().wipe}))")
    viewer.ask("[setattr(window.controls, 'first_person', False), window.set_mode('color'), window.model.navigator.to_view(0)]")
    viewer.ask("window.model.touch()")
    viewer.settle()
    return viewer


def share(image: np.ndarray, color: tuple[int, int, int], left: float = 0.0, right: float = 1.0) -> float:
    """How much of a part of the view has about this colour."""
    width = image.shape[1]
    part = image[:, int(left * width) : int(right * width)].astype(int)
    return float((np.abs(part - np.array(color)).max(-1) < 45).mean())


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


PANEL = "[panel for panel in window.panels if panel.title == {!r}][0]"


@pytest.fixture
def panel(window: Session) -> Iterator[Callable[[str], str]]:
    """Opens a panel, folds up the others, and gives an expression for it."""

    def opened(title: str) -> str:
        window.ask(f"[gui.set_value(panel.header, panel.title == {title!r}) for panel in window.panels]")
        window.ask("None")
        return PANEL.format(title)

    yield opened
    window.ask("[gui.set_value(panel.header, panel.open_at_start) for panel in window.panels]")
    window.ask("[window.model.remove(2) for _ in window.model.entries[2:]]")


def test_time_slider_and_play_change_the_picture(window: Session, panel: Callable[[str], str]) -> None:
    window.ask("window.files.add(Entry('changing', fields.Changing(), cameras=window.model.entries[0].cameras))")
    time_panel = panel("Time")
    window.ask("[window.model.navigator.to_view(0), window.model.set_time(0.0)]")
    window.settle()
    assert share(window.grab(), RED) > 0.05
    window.press(f"{time_panel}.slider", at=0.97)
    window.until("window.model.time > 0.9")
    window.until("not window.controls.moving")
    window.settle()
    image = window.grab()
    assert share(image, GREEN) > 0.05
    assert share(image, RED) < 0.01
    window.press(f"{time_panel}.play")
    window.until("window.model.time < 0.5")
    window.press(f"{time_panel}.play")
    window.until(f"not {time_panel}.playing")
    window.settle()
    window.ask("window.model.set_time(0.0)")
    window.key("8")  # what stands still
    window.until("window.model.look.mode == 'static'")
    window.settle()
    assert share(window.grab(), RED) < 0.01


def test_sparse_points_are_switched_on_or_explain_themselves(window: Session, panel: Callable[[str], str]) -> None:
    display = panel("Display")
    window.press(f"{display}.points")
    window.until("'--data DATA' in gui.get_value(window.status)")
    window.until(f"not gui.get_value({display}.points)")
    window.ask("[fields.captured(folder / 'capture'), setattr(window.model.entry, 'data', folder / 'capture')]")
    before = window.grab()
    window.press(f"{display}.points")
    window.until("window.model.look.points is not None")
    window.settle()
    assert share(window.grab(), (255, 0, 255)) > share(before, (255, 0, 255)) + 0.001
    window.ask("window.model.activate(1)")  # trained on something else
    window.until(f"not gui.get_value({display}.points)")
    window.ask("setattr(window.model.entries[0], 'data', None)")


def test_path_panel_flies_a_path_and_renders_a_film(window: Session, panel: Callable[[str], str]) -> None:
    import imageio.v3 as iio

    path = panel("Camera path")
    film = window.folder / "film.mp4"
    window.press(f"{path}.add")
    window.until(f"len({path}.path.keys) == 1")
    window.drag((0.3, 0.85), (0.6, 0.85))
    window.key("k")
    window.until(f"len({path}.path.keys) == 2")
    window.ask(f"[{path}._set(name, value) for name, value in (('seconds', 0.5), ('fps', 8.0), ('width', 64), ('height', 48))]")
    window.ask(f"[gui.set_value({path}.samples, 1), gui.set_value({path}.video, str(folder / 'film.mp4'))]")
    window.press(f"{path}.play")
    window.until(f"{path}._started is None and window.model.navigator.view_index is None")
    window.press(f"{path}.render")
    window.wait(film.exists, "the film")
    window.until("not window.jobs")
    frames = iio.imread(film, plugin="pyav")
    assert frames.shape == (4, 48, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 2.0
    window.ask(f"gui.set_value({path}.file, str(folder / 'path.json'))")
    window.press(f"{path}.save")
    window.wait((window.folder / "path.json").exists, "the path file")
    window.ask(f"{path}._clear()")
    window.press(f"{path}.load")
    window.until(f"len({path}.path.keys) == 2")


def test_converting_shows_the_student_beside_its_teacher(window: Session, panel: Callable[[str], str]) -> None:
    """Pause, resume and stop from the training panel; the field that came out stays open."""
    convert = panel("Convert")
    window.ask(f"[gui.set_value({convert}.family, 'voxels'), gui.set_value({convert}.seconds, 3600.0)]")
    window.press(f"{convert}.begin")
    window.until(f"{convert}.student is not None")
    assert window.ask("(window.model.layout, window.model.entry.name)") == ["side", "red"]
    training = panel("Training")
    window.until(f"{training}.live.step > 5")
    window.press(f"{training}.pause")
    window.until(f"{training}.live.paused")
    window.ask(f"setattr(window, 'seen', {training}.live.step + 1)")
    for _ in range(10):
        window.ask("None")
    assert window.ask(f"{training}.live.step <= window.seen")
    window.press(f"{training}.pause")
    window.until(f"{training}.live.step > window.seen + 3")
    assert window.ask(f"len({training}.live.losses) > 3")
    window.press(f"{training}.stop")
    window.until(f"{convert}.conversion.job.done and not window.jobs")
    assert window.ask(f"{convert}.conversion.job.failure") is None
    assert window.ask("window.model.entries[2].unsaved")
    assert "stopped early" in window.ask(f"gui.get_value({convert}.state)")


def test_compressing_opens_the_packed_file_beside_the_field(window: Session, panel: Callable[[str], str]) -> None:
    compress = panel("Compress")
    file = window.folder / "packed.field"
    window.until(f"{compress}._entry is window.model.entry")  # from then on the panel leaves the name alone
    window.ask(f"[gui.set_value({compress}.file, str(folder / 'packed.field')), gui.set_value({compress}.goal, 'a loss')]")
    window.press(f"{compress}.begin")
    window.until(f"{compress}._job is not None")
    window.until("not window.jobs")
    assert window.ask(f"{compress}._job.failure") is None
    assert 0 < file.stat().st_size < Path(window.ask("str(window.model.entries[0].path)")).stat().st_size
    assert window.ask("(window.model.layout, window.model.entries[2].name)") == ["wipe", "packed"]
    window.settle()
    assert share(window.grab(), RED, 0.0, 0.5) > 0.05
