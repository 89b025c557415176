"""The viewer's state: fields, comparison, crop, controls, overlays, settings; without a window."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from viewer_fields import blocks

from fieldmorph.errors import UserError
from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.types import RenderSettings
from fieldmorph.viewer import gui
from fieldmorph.viewer.controls import LEFT, RIGHT, Controls
from fieldmorph.viewer.engine import Comparison, FieldSource, compose, render_shots
from fieldmorph.viewer.entries import open_entry
from fieldmorph.viewer.jobs import Job
from fieldmorph.viewer.model import Model
from fieldmorph.viewer.overlay import Projector, box_handles, box_lines, drag_handle, frusta_lines
from fieldmorph.viewer.preferences import Preferences, load_preferences, save_preferences
from fieldmorph.viewer.scheduler import Task
from fieldmorph.viewer.shots import Look, Shot, available_modes, difference, expose, photo_shot, picture_psnr, shade, shoot

FULL = Task(False, 1.0)
BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


@pytest.fixture
def model(field_files: list[Path]) -> Model:
    found = Model([open_entry(file) for file in field_files])
    found.navigator.to_view(0)
    return found


def picture(model: Model, width: int = 64, height: int = 48):
    request = model.request(width, height)
    return compose(request, render_shots(request, FULL), model.look, model.comparison, FULL, 0.0)


def test_entry_knows_its_facts(model: Model) -> None:
    facts = dict(model.entry.facts())
    assert facts["Family"] == "voxels"
    assert facts["Parameters"] == f"{16**3 * 4:,}"
    assert facts["Cameras"] == "3"
    assert facts["History"] == "made by a test"
    assert model.entry.name == "red"


def test_opening_and_closing(model: Model, field_files: list[Path]) -> None:
    revision = model.revision
    model.add(open_entry(field_files[0]))
    assert model.entry.name == "red (2)"
    assert model.revision > revision
    model.remove(0)
    assert [e.name for e in model.entries] == ["green", "red (2)"]
    assert model.entry.name == "red (2)"
    model.compare("side")
    model.remove(0)
    assert model.layout == "single"
    model.remove(0)
    assert len(model.entries) == 1
    assert "stays open" in model.message


def test_comparing_needs_something_to_compare_with(model: Model) -> None:
    model.compare("side", "photograph")
    with pytest.raises(UserError, match="--data"):
        model.request(64, 48)
    model.remove(1)
    model.compare("wipe", "field")
    assert model.layout == "single"
    assert "second field" in model.message


def test_crop_hides_what_lies_outside(model: Model) -> None:
    whole = picture(model).shots[0].opacity.sum()
    model.set_crop(((0.0, -1.0, -1.0), (1.0, 1.0, 1.0)))
    half = picture(model)
    assert 0.3 * whole < half.shots[0].opacity.sum() < 0.7 * whole
    assert half.rgba[27, 22, :3].min() > 0.95
    model.set_crop(((1.0, 1.0, 1.0), (1.0, -1.0, -1.0)))
    assert model.crop is not None
    assert all(low < high for low, high in zip(*model.crop, strict=True))
    model.set_crop(None)
    assert picture(model).shots[0].opacity.sum() == pytest.approx(whole)


def test_near_and_far_cut(model: Model) -> None:
    scale = model.entry.field.space.scale
    depth = picture(model).shots[0].depth
    first = float(depth[depth > 0].min())
    model.marching = replace(model.marching, far=0.5 * first * scale)
    assert picture(model).shots[0].opacity.max() == 0.0
    model.marching = replace(model.marching, far=None, near=first * scale + 0.4)
    assert float(picture(model).shots[0].depth[27, 22]) > first + 0.3


@pytest.mark.parametrize("mode", available_modes(blocks()))
def test_every_mode_shows_the_blocks_and_nothing_around_them(model: Model, mode: str) -> None:
    entry = model.entry
    shot = shoot(entry.field, model.request(64, 48).camera, entry.settings, mode)  # type: ignore[arg-type]
    shown = shade(shot, Look(mode=mode, background="black"))  # type: ignore[arg-type]
    assert shown.shape == (48, 64, 3)
    assert np.isfinite(shown).all()
    assert shown.min() >= 0.0
    assert shown.max() <= 1.0 + 1e-5
    assert np.ptp(shown.reshape(-1, 3), axis=0).max() > 0.3
    np.testing.assert_array_equal(shown[0, 0], shown[47, 63])


def test_occupancy_is_where_the_grid_says(model: Model) -> None:
    entry = model.entry
    shot = shoot(entry.field, model.request(64, 48).camera, entry.settings, "occupancy")
    assert set(np.unique(shot.opacity)) == {0.0, 1.0}
    color = shoot(entry.field, model.request(64, 48).camera, entry.settings, "color")
    assert (shot.opacity >= (color.opacity > 0.5)).all()
    entry.field.occupancy.bits.fill_(False)
    empty = shoot(entry.field, model.request(64, 48).camera, entry.settings, "occupancy")
    assert empty.opacity.max() == 0.0


def test_exposure_and_tone() -> None:
    rgb = np.full((1, 1, 3), 0.5, np.float32)
    alpha = np.ones((1, 1), np.float32)
    same = expose(rgb, alpha, Look())
    assert same is rgb
    brighter, darker = (float(expose(rgb, alpha, Look(exposure=e))[0, 0, 0]) for e in (1.0, -1.0))
    assert darker < 0.5 < brighter
    light = ((0.5 + 0.055) / 1.055) ** 2.4
    assert ((brighter + 0.055) / 1.055) ** 2.4 == pytest.approx(2.0 * light, rel=1e-3)
    filmic = float(expose(rgb, alpha, Look(tone="filmic"))[0, 0, 0])
    assert filmic == pytest.approx(0.5, abs=0.08)
    half = expose(rgb * 0.5, alpha * 0.5, Look(exposure=1.0))
    assert float(half[0, 0, 0]) == pytest.approx(0.5 * brighter, abs=1e-5)


def test_backgrounds(model: Model) -> None:
    empty = Shot(np.zeros((30, 40, 3), np.float32), np.zeros((30, 40), np.float32), np.zeros((30, 40), np.float32), learned=(0.2, 0.4, 0.6))
    assert shade(empty, Look(background="black")).max() == 0.0
    assert shade(empty, Look(background="white")).min() == 1.0
    assert len(np.unique(shade(empty, Look(background="checker")))) == 2
    np.testing.assert_allclose(shade(empty, Look(background="learned"))[3, 3], (0.2, 0.4, 0.6), atol=1e-6)


def test_photograph_lands_where_its_camera_would_put_it() -> None:
    image = np.zeros((20, 30, 4), np.uint8)
    image[:, :15] = (255, 0, 0, 255)
    shot = photo_shot(image, 60, 40)
    assert shot.rgb[20, 10].tolist() == [1.0, 0.0, 0.0]
    assert shot.opacity[20, 50] == 0.0
    wide = photo_shot(image, 100, 40)
    assert wide.opacity[20, 5] == 0.0
    assert wide.opacity[20, 30] == 1.0
    tall = photo_shot(image, 20, 40)
    assert tall.opacity[20, 5] == 1.0
    assert tall.opacity[20, 15] == 0.0


def test_picture_psnr_and_difference() -> None:
    a = np.zeros((4, 4, 3), np.float32)
    assert picture_psnr(a, a) == 100.0
    assert picture_psnr(a, a + 0.1) == pytest.approx(20.0, abs=1e-3)
    assert not np.array_equal(difference(a, a + 0.1, 5.0), difference(a, a, 5.0))


def test_accumulated_samples_are_their_mean() -> None:
    shots = [Shot(np.full((2, 2, 3), v, np.float32), np.full((2, 2), v, np.float32), np.zeros((2, 2), np.float32)) for v in (0.0, 0.3, 0.9)]
    mean = shots[0].with_sample(shots[1]).with_sample(shots[2])
    np.testing.assert_allclose(mean.rgb, 0.4, atol=1e-6)
    assert mean.samples == 3


class TestControls:
    @pytest.fixture
    def controls(self, model: Model) -> Controls:
        seen = picture(model)
        return Controls(model, lambda: seen)

    def test_left_drag_orbits_and_a_click_does_not(self, controls: Controls) -> None:
        navigator = controls.model.navigator
        before, revision = navigator.pose.copy(), controls.model.revision
        controls.press(LEFT, 0.5, 0.5)
        controls.drag(0.503, 0.5, 1.3)
        controls.release()
        np.testing.assert_array_equal(navigator.pose, before)
        controls.press(LEFT, 0.5, 0.5)
        controls.drag(0.6, 0.5, 1.3)
        assert controls.moving
        controls.release()
        controls.hold((), 0.02)
        assert not controls.moving
        assert navigator.distance == pytest.approx(float(np.linalg.norm(before[:, 3] - navigator.focus)))
        assert controls.model.revision > revision

    def test_right_drag_takes_the_surface_along(self, controls: Controls) -> None:
        model = controls.model
        seen = controls.picture()
        point = model.point_at(0.35, 0.55, seen)
        assert point is not None
        controls.press(RIGHT, 0.35, 0.55)
        controls.drag(0.45, 0.60, 64 / 48)
        pixel, _ = model.navigator.camera(64, 48).project(point[None])
        np.testing.assert_allclose(pixel[0].numpy() / (64, 48), (0.45, 0.60), atol=0.01)

    def test_double_click_focuses_on_the_surface(self, controls: Controls) -> None:
        assert controls.set_focus(0.35, 0.55)
        focus = controls.model.navigator.focus
        assert -0.85 < focus[0] < -0.1
        assert focus[1] == pytest.approx(-0.53, abs=0.12)
        assert not controls.set_focus(0.01, 0.01)
        assert "nothing" in controls.model.message

    def test_move_keys_fly_and_then_the_mouse_looks_around(self, controls: Controls) -> None:
        navigator = controls.model.navigator
        start = navigator.position.copy()
        for keys in (("E",), ("Space",)):
            controls.hold(keys, 0.1)
        assert (navigator.position - start) @ navigator.up > 0.0
        for keys in (("Q",), ("C",)):
            controls.hold(keys, 0.1)
        np.testing.assert_allclose(navigator.position, start, atol=1e-9)
        controls.hold(("W", "S"), 0.1)
        np.testing.assert_allclose(navigator.position, start, atol=1e-9)
        assert controls.first_person
        controls.press(LEFT, 0.5, 0.5)
        controls.drag(0.7, 0.5, 1.3)
        np.testing.assert_allclose(navigator.position, start, atol=1e-9)
        controls.release()
        controls.key("F")
        assert not controls.first_person

    def test_keys(self, controls: Controls) -> None:
        navigator = controls.model.navigator
        controls.key("]")
        assert navigator.view_index == 1
        controls.key("]", shift=True)
        assert navigator.view_index == 2
        controls.key("[", shift=True)
        assert navigator.view_index == 0
        distance = navigator.distance
        controls.key("+")
        assert navigator.distance < distance
        controls.wheel(-1.0)
        assert navigator.distance == pytest.approx(distance)
        fov = navigator.fov
        controls.key("PageDown")
        assert navigator.fov > fov
        controls.hold(("Left",), 0.1)
        assert controls.moving
        assert not controls.key("Z")


class TestOverlay:
    view = Projector(look_at((0.0, -4.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), 40.0, 200, 200)

    def test_projects_as_the_camera_does(self) -> None:
        camera = Camera.perspective(200, 200, 40.0, self.view.pose)
        points = np.random.default_rng(0).uniform(-1.0, 1.0, (20, 3))
        pixels, _ = camera.project(points)
        np.testing.assert_allclose([self.view.point(p) for p in points], pixels.numpy(), atol=1e-6)
        assert self.view.point(np.array([0.0, -5.0, 0.0])) is None

    def test_lines_behind_the_camera_are_cut(self) -> None:
        ends = np.array([[0.5, 0.0, 0.0], [0.0, -8.0, 0.0]]), np.array([[0.5, -8.0, 0.0], [0.0, -9.0, 0.0]])
        lines = self.view.lines(*ends, (255, 255, 255, 255))
        assert len(lines) <= 1
        for line in box_lines(self.view, BOX, (1, 2, 3, 4)):
            assert np.isfinite([*line.start, *line.end]).all()
        assert len(box_lines(self.view, BOX, (1, 2, 3, 4))) == 12

    def test_handles_follow_the_mouse(self) -> None:
        handle = next(h for h in box_handles(self.view, BOX) if (h.axis, h.side) == (0, 1))
        moved = drag_handle(BOX, handle, -20.0, 3.0)
        assert moved[0] == BOX[0]
        assert moved[1][1:] == BOX[1][1:]
        there = next(h for h in box_handles(self.view, moved) if (h.axis, h.side) == (0, 1)).place
        assert there[0] - handle.place[0] == pytest.approx(-20.0, abs=1.0)
        assert drag_handle(BOX, handle, -5000.0, 0.0)[1][0] == BOX[0][0]

    def test_training_cameras_are_pyramids(self, model: Model) -> None:
        lines = frusta_lines(self.view, model.entry.cameras, 0.2, 1)
        assert len({line.color for line in lines}) == 2
        assert len(lines) >= 8


def test_preferences_survive_and_damage_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "viewer.json"
    before = Preferences(width=1000, show_cameras=True, fps=24.0)
    for name in ("a", "b", "a"):
        before.opened(tmp_path / name)
    save_preferences(before, file)
    assert load_preferences(file) == before
    assert [Path(p).name for p in before.recent] == ["a", "b"]
    file.write_text("{ not json")
    assert load_preferences(file) == Preferences()
    file.write_text(json.dumps({"width": "wide", "height": 1e300, "fps": True, "recent": [1], "samples": 9, "colour": 3}))
    assert load_preferences(file) == Preferences(samples=9)
    assert load_preferences(tmp_path / "none.json") == Preferences()
    (tmp_path / "file").write_text("")
    save_preferences(before, tmp_path / "file" / "viewer.json")  # cannot be: nobody is told


def test_jobs_report_and_stop() -> None:
    def work(job: Job) -> int:
        job.progress(0.5, "half")
        return 7

    job = Job("count", work)
    assert job.wait(30)
    assert (job.result, job.share, job.note, job.failure) == (7, 1.0, "half", None)

    def fail(job: Job) -> None:
        raise UserError("no more coffee")

    job = Job("brew", fail)
    assert job.wait(30)
    assert job.failure == "no more coffee"

    def forever(job: Job) -> None:
        while True:
            job.progress(0.1)

    job = Job("wait", forever)
    job.stop()
    assert job.wait(30)
    assert job.stopped
    assert job.failure is None


def test_no_display_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    pytest.importorskip("dearpygui")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"no display.*--screenshot"):
        gui.require_window()
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(UserError, match=r"cannot be reached|not installed"):
        gui.require_window()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fieldmorph\[viewer\]'"):
        gui.require_window()


def test_crop_and_far_mean_the_same_in_every_renderer(model: Model) -> None:
    from fieldmorph import kernels
    from fieldmorph.render.renderer import render_image

    camera = model.request(24, 18).camera
    settings = RenderSettings(steps=256, far=5.0, crop=((-1.0, -0.4, -0.3), (0.5, 0.4, 0.3)))
    field = model.entry.field
    fast = render_image(field, camera, settings)
    kernels.set_kernels("reference")
    try:
        slow = render_image(field, camera, settings)
    finally:
        kernels.set_kernels("auto")
    torch.testing.assert_close(fast.rgb, slow.rgb, atol=2e-3, rtol=0.0)


def test_source_settings_carry_the_crop(model: Model) -> None:
    model.set_crop(BOX)
    model.marching = replace(model.marching, steps=77)
    (source,) = model.request(8, 8).sources
    assert isinstance(source, FieldSource)
    assert (source.settings.steps, source.settings.crop) == (77, BOX)


def test_ui_scale_listens_to_the_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMORPH_UI_SCALE", "1.5")
    assert gui.ui_scale() == 1.5
    monkeypatch.setenv("FIELDMORPH_UI_SCALE", "900")
    monkeypatch.setenv("GDK_SCALE", "2")
    assert gui.ui_scale() == 2.0
    for name in ("FIELDMORPH_UI_SCALE", "GDK_SCALE", "QT_SCALE_FACTOR", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if os.name == "posix":
        assert gui.ui_scale() == 1.0


def test_comparison_defaults() -> None:
    assert 0.0 < Comparison().wipe < 1.0
