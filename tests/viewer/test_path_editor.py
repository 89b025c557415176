"""The camera path as it is built, drawn, saved in three layouts, and rendered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldmorph.errors import UserError
from fieldmorph.render.camera import look_at
from fieldmorph.render.path_export import LAYOUTS, export_path
from fieldmorph.render.path_files import read_path
from fieldmorph.viewer.engine import Comparison
from fieldmorph.viewer.entries import open_entry
from fieldmorph.viewer.model import Model
from fieldmorph.viewer.path_editor import PathEditor, render_video
from fieldmorph.viewer.shots import Look

EYES = ((4.0, 0.0, 1.0), (0.0, 4.0, 1.5), (-4.0, 0.5, 1.0), (0.0, -4.0, 0.5))


@pytest.fixture
def path() -> PathEditor:
    editor = PathEditor()
    for eye in EYES:
        editor.add(look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), 40.0)
    editor.seconds, editor.fps, editor.width, editor.height = 2.0, 12.0, 64, 48
    editor.changed()
    return editor


def test_speed_is_constant_and_keyframes_are_met(path: PathEditor) -> None:
    film = path.film()
    assert len(film) == 24
    places = np.stack([camera.position for camera in film.cameras])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    assert np.ptp(steps) / steps.mean() < 0.02
    np.testing.assert_allclose(places[0], EYES[0], atol=1e-6)
    np.testing.assert_allclose(places[-1], EYES[-1], atol=1e-6)
    for eye in EYES:
        assert np.linalg.norm(places - np.array(eye), axis=-1).min() < steps.mean()
    assert path.film() is film  # drawn once


def test_editing(path: PathEditor) -> None:
    inserted = path.add(look_at((3.0, 3.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), 40.0, at=0)
    assert inserted == 1
    assert len(path.film()) == 24
    assert path.move(1, -1) == 0
    np.testing.assert_allclose(path.keys[0].camera_to_world[:, 3], (3.0, 3.0, 1.0))
    path.update(0, path.keys[2].camera_to_world, 55.0)
    assert path.keys[0].fov == 55.0
    path.update(0, path.keys[2].camera_to_world, 55.0, 0.75)
    path.update(0, path.keys[2].camera_to_world, 50.0)
    assert (path.keys[0].fov, path.keys[0].time) == (50.0, 0.75)
    path.remove(0)
    path.loop = True
    path.changed()
    curve = path.curve()
    np.testing.assert_array_equal(curve[0], curve[-1])
    path.clear()
    assert path.frame_at(0.5) is None
    assert len(path.curve()) == 0


def test_playing(path: PathEditor) -> None:
    last = path.frame_at(99.0)
    assert last is path.film().cameras[-1]
    path.loop = True
    path.changed()
    assert path.frame_at(2.0 + 0.5) is path.frame_at(0.5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_back(path: PathEditor, layout: str, tmp_path: Path) -> None:
    file = tmp_path / "path.json"
    path.save(file, layout)
    found = read_path(file, size=(64, 48))
    film = path.film()
    count = len(film) if layout != "instant-ngp" else len(found)
    assert len(found) == count
    first, last = (0, -1)
    for index in (first, last):
        np.testing.assert_allclose(found.cameras[index].camera_to_world, film.cameras[index].camera_to_world, atol=1e-6)
    assert found.cameras[0].fov == pytest.approx(40.0)
    other = PathEditor()
    other.load(file)
    assert len(other.keys) == (len(EYES) if layout != "nerfstudio" else 24)
    np.testing.assert_allclose(other.keys[0].camera_to_world, path.keys[0].camera_to_world, atol=1e-6)
    assert other.seconds == pytest.approx(2.0)


def test_exports_have_the_fields_other_programs_read(path: PathEditor, tmp_path: Path) -> None:
    path.keys = [replace(key, time=index / 3.0) for index, key in enumerate(path.keys)]
    path.changed()
    path.save(tmp_path / "ns.json", "nerfstudio")
    content = json.loads((tmp_path / "ns.json").read_text())
    assert (content["render_width"], content["render_height"], content["camera_type"]) == (64, 48, "perspective")
    assert len(content["camera_path"][0]["camera_to_world"]) == 16
    assert [frame["render_time"] for frame in content["camera_path"]][::23] == pytest.approx([0.0, 1.0])
    path.save(tmp_path / "ngp.json", "instant-ngp")
    stamps = [entry["timestamp"] for entry in json.loads((tmp_path / "ngp.json").read_text())["path"]]
    assert stamps == sorted(stamps)
    assert stamps[0] > 0.0
    with pytest.raises(UserError, match="choose one of"):
        export_path(tmp_path / "x.json", path.film(), "blender")
    path.clear()
    with pytest.raises(UserError, match="no keyframes"):
        path.save(tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_video_has_every_frame(path: PathEditor, field_files: list[Path], tmp_path: Path) -> None:
    import av

    path.seconds = 0.5
    path.changed()
    model = Model([open_entry(field_files[0])])
    shares: list[float] = []
    file = tmp_path / "film.mp4"
    request = model.request(path.width, path.height)
    render_video(file, path.film(), request, Look(), Comparison(), 1, lambda share, note: shares.append(share))
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(shares) == 6
    assert frames[0].shape == (48, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[-1].astype(int)).mean() > 1.0
