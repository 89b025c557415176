"""The panels of the real window, used with mouse and keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from session import GREEN, RED, Session, share

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
