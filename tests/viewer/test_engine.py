"""The render thread: newest request wins, stills become sharp, mistakes become sentences."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from viewer_fields import BLUE, GREEN, RED

from fieldmorph.datasets.points import Points
from fieldmorph.errors import UserError
from fieldmorph.viewer import engine as engine_module
from fieldmorph.viewer.engine import Comparison, Engine, Failure, Picture, Request, compose, render_shots, source_camera, task_camera
from fieldmorph.viewer.entries import open_entry
from fieldmorph.viewer.model import Model
from fieldmorph.viewer.points import draw_points
from fieldmorph.viewer.scheduler import Scheduler, Task
from fieldmorph.viewer.shots import Look

FULL = Task(False, 1.0)


@pytest.fixture
def model(field_files: list[Path]) -> Model:
    return Model([open_entry(file) for file in field_files])


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine(Scheduler(samples=3))
    yield running
    running.close()


def wait(condition: Callable[[], object], seconds: float = 120.0) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds
        time.sleep(0.005)


def finish(engine: Engine) -> Picture:
    wait(lambda: engine.idle)
    assert engine.shown is not None
    return engine.shown


def near(pixel: np.ndarray, color: tuple[float, float, float]) -> bool:
    return float(np.abs(pixel[:3] - np.array(color)).max()) < 0.12


def test_still_picture_accumulates_all_samples(engine: Engine, model: Model) -> None:
    model.navigator.to_view(0)
    request = model.request(64, 48)
    engine.submit(request)
    picture = finish(engine)
    assert picture.request is request
    assert picture.shots[0].samples == 3
    assert picture.rgba.shape == (48, 64, 4)
    assert near(picture.rgba[27, 22], RED)
    assert near(picture.rgba[27, 42], BLUE)
    assert near(picture.rgba[2, 2], (1.0, 1.0, 1.0))


def test_newest_request_wins(engine: Engine, model: Model) -> None:
    for view in range(40):
        model.navigator.to_view(view % 3)
        engine.submit(model.request(64, 48))
    last = model.request(32, 24)
    engine.submit(last)
    assert finish(engine).request is last


def test_look_changes_without_rendering(engine: Engine, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.submit(model.request(32, 24))
    before = finish(engine)
    monkeypatch.setattr(engine_module, "render_shots", lambda *a: pytest.fail("rendered anew"))
    engine.restyle(Look(background="black"), Comparison())
    wait(lambda: engine.shown is not before)
    after = engine.shown
    assert after is not None
    assert near(after.rgba[1, 1], (0.0, 0.0, 0.0))
    assert after.shots is before.shots


def test_failure_is_a_sentence_and_the_next_request_works(engine: Engine, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine_module.render_shots

    def broken(*arguments: object) -> object:
        raise UserError("the moon is in the way")

    monkeypatch.setattr(engine_module, "render_shots", broken)
    engine.submit(model.request(32, 24))
    found: list[object] = []
    wait(lambda: found.append(engine.take()) or isinstance(found[-1], Failure))
    assert found[-1] == Failure("the moon is in the way")
    monkeypatch.setattr(engine_module, "render_shots", real)
    engine.submit(model.request(32, 24))
    assert finish(engine).rgba.shape == (24, 32, 4)


def test_input_cancels_a_refinement_at_once(engine: Engine, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refinement that would never end by itself gives way to the next request."""
    entered, slow = threading.Event(), model.request(64, 48)
    real = engine_module.render_shots

    def stuck(request: Request, task: Task, cancel: object = None) -> object:
        while request is slow:
            entered.set()
            if cancel is not None and cancel():  # type: ignore[operator]
                raise engine_module.Cancelled
            time.sleep(0.001)
        return real(request, task, cancel)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_module, "render_shots", stuck)
    engine.submit(slow)
    assert entered.wait(60)
    model.navigator.orbit(0.1, 0.0)
    quick = model.request(32, 24)
    engine.submit(quick, moving=True)
    wait(lambda: engine.shown is not None and engine.shown.request is quick)


def test_waiting_gives_the_first_picture_its_time_and_no_more(engine: Engine, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.wait(60.0)  # nothing was asked for: nothing to wait for
    real, gate = engine_module.render_shots, threading.Event()

    def slow(request: Request, task: Task, cancel: object = None) -> object:
        gate.wait(60)
        return real(request, task, cancel)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_module, "render_shots", slow)
    request = model.request(32, 24)
    engine.submit(request, moving=True)
    engine.wait(0.01)
    assert engine.take() is None
    threading.Timer(0.05, gate.set).start()
    engine.wait(60.0)
    picture = engine.take()
    assert isinstance(picture, Picture)
    assert picture.request is request

    def broken(*arguments: object) -> object:
        raise UserError("the moon is in the way")

    monkeypatch.setattr(engine_module, "render_shots", broken)
    engine.submit(model.request(24, 24))
    engine.wait(60.0)  # a failure ends it, too
    assert isinstance(engine.take(), Failure)


def test_points_lie_where_nothing_hides_them(model: Model) -> None:
    """Of three points one is in front of the red block, one within it, one behind the camera."""
    points = Points(np.array([[-0.45, -0.7, 0.0], [-0.45, 0.0, 0.0], [0.0, -9.0, 3.0]]), np.array([[0, 255, 0]] * 3, np.uint8))
    model.navigator.to_view(0)
    request = model.request(128, 96)
    shots = render_shots(request, FULL)
    plain = compose(request, shots, Look(), Comparison(), FULL, 0.0)
    drawn = compose(request, shots, Look(points=points), Comparison(), FULL, 0.0)
    changed = (np.abs(drawn.rgba - plain.rgba).max(-1) > 0.1).nonzero()
    x, y = source_camera(request).project(points.xyz[:1])[0][0].tolist()
    assert changed[0].tolist() == [int(y)]
    assert changed[1].tolist() == [int(x)]
    assert near(drawn.rgba[int(y), int(x)], (0.0, 1.0, 0.0))
    model.compare("side")
    request = model.request(128, 96)
    shots = render_shots(request, FULL)
    plain = compose(request, shots, Look(), Comparison(), FULL, 0.0)
    drawn = compose(request, shots, Look(points=points), Comparison(), FULL, 0.0)
    columns = (np.abs(drawn.rgba - plain.rgba).max(-1) > 0.1).nonzero()[1]
    assert [int(column >= 64) for column in sorted(columns.tolist())] == [0, 1]
    assert drawn.psnr == plain.psnr  # points are no part of the comparison


def test_coarse_pictures_show_a_share_of_the_points(model: Model) -> None:
    points = Points(np.random.default_rng(0).uniform(-1.0, 1.0, (4000, 3)))
    request = model.request(128, 96)
    shot = render_shots(request, FULL)[0]
    bare = replace(shot, opacity=np.zeros_like(shot.opacity))
    black = np.zeros((96, 128, 3), np.float32)
    whole = draw_points(black, bare, request.camera, points, 1.0)
    share = draw_points(black, bare, request.camera, points, 0.25)
    assert 0.0 < (share.max(-1) > 0).sum() < 0.25 * (whole.max(-1) > 0).sum()
    assert not black.any()


def test_moving_pictures_use_the_preview_and_stills_do_not(engine: Engine, model: Model) -> None:
    model.entry.preview = model.entries[1].field  # green where the field is red
    model.navigator.to_view(0)
    seen: list[Picture] = []
    engine.submit(model.request(64, 48), moving=True)
    wait(lambda: (p := engine.take()) is not None and (seen.append(p) or True))  # type: ignore[func-returns-value]
    assert seen[0].task.preview
    height, width = seen[0].rgba.shape[:2]
    assert near(seen[0].rgba[int(height * 0.55), int(width * 0.35)], GREEN)
    final = finish(engine)
    assert not final.task.preview
    assert near(final.rgba[27, 22], RED)


def test_comparisons(model: Model) -> None:
    model.navigator.to_view(0)
    model.compare("wipe")
    request = model.request(64, 48)
    shots = render_shots(request, FULL)
    left = compose(request, shots, Look(), Comparison(wipe=1.0), FULL, 0.0)
    right = compose(request, shots, Look(), Comparison(wipe=0.0), FULL, 0.0)
    assert near(left.rgba[27, 22], RED)
    assert near(right.rgba[27, 22], GREEN)
    assert left.psnr is not None
    assert 3.0 < left.psnr < 25.0
    gap = compose(replace(request, layout="difference"), shots, Look(), Comparison(), FULL, 0.0)
    assert gap.rgba[27, 22].tolist() != gap.rgba[27, 42].tolist()  # the left blocks differ, the right ones do not
    np.testing.assert_array_equal(gap.rgba[27, 42], gap.rgba[1, 1])
    model.compare("side")
    request = model.request(64, 48)
    both = compose(request, render_shots(request, FULL), Look(), Comparison(), FULL, 0.0)
    assert both.rgba.shape == (48, 64, 4)
    assert near(both.rgba[27, 8], RED)
    assert near(both.rgba[27, 40], GREEN)
    one = model.entries[0]
    model.entries[1] = one
    request = model.request(64, 48)
    assert compose(request, render_shots(request, FULL), Look(), Comparison(), FULL, 0.0).psnr == 100.0


def test_samples_lie_within_their_pixel(model: Model) -> None:
    camera = model.request(64, 48).camera
    shifts = [
        (task_camera(camera, Task(False, 1.0, i)).cx - camera.cx, task_camera(camera, Task(False, 1.0, i)).cy - camera.cy)
        for i in range(32)
    ]
    assert shifts[0] == (0.0, 0.0)
    assert np.abs(shifts).max() <= 0.5
    assert np.abs(np.mean(shifts, 0)).max() < 0.05
    half = task_camera(camera, Task(False, 0.5))
    assert (half.width, half.height) == (32, 24)
    assert half.fov == pytest.approx(camera.fov)
