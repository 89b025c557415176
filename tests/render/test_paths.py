"""Camera paths: constant speed, seamless loops, and files of three programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic import UNIT_BOX, Ball

from fieldmorph.errors import UserError
from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.overview import overview, recorded_cameras
from fieldmorph.render.path_files import read_path, write_path
from fieldmorph.render.paths import PATHS, CameraPath, camera_path
from fieldmorph.render.splines import Keyframe, Keyframes, matrix_from_quaternion, quaternion_from_matrix

TILT = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
TILT *= np.sign(np.linalg.det(TILT))  # a world whose up is no axis


def ring(
    count: int = 40, radius: float = 3.0, elevation: float = 0.4, spread: float = 2 * np.pi, up: np.ndarray | None = None
) -> list[Camera]:
    """Cameras on a circle that look at the origin; ``up`` [3, 3] turns the whole arrangement."""
    rotation = np.eye(3) if up is None else up
    cameras = []
    for i in range(count):
        a = spread * i / count
        eye = radius * np.array([math.cos(elevation) * math.cos(a), math.cos(elevation) * math.sin(a), math.sin(elevation)])
        cameras.append(Camera.perspective(60, 40, 42.0, look_at(rotation @ eye, (0, 0, 0), rotation[:, 2]), name=f"r_{i}"))
    return cameras


def positions(cameras: Any) -> np.ndarray:
    return np.stack([camera.position for camera in cameras])


def speeds(cameras: Any, loop: bool = False) -> np.ndarray:
    place = positions(cameras)
    if loop:
        place = np.concatenate([place, place[:1]])
    return np.linalg.norm(np.diff(place, axis=0), axis=-1)


@pytest.mark.parametrize("turn", [np.eye(3), TILT])
def test_overview_finds_up_centre_distance_and_elevation(turn: np.ndarray) -> None:
    seen = overview(ring(up=turn), UNIT_BOX)
    assert float(seen.up @ turn[:, 2]) > 0.9999
    np.testing.assert_allclose(seen.centre, 0.0, atol=1e-3)
    assert seen.radius == pytest.approx(3.0, rel=1e-3)
    assert seen.elevation == pytest.approx(0.4, abs=1e-3)
    assert seen.surrounds
    assert (seen.width, seen.height) == (60, 40)
    assert seen.fov == pytest.approx(42.0)


def test_overview_of_a_forward_facing_capture() -> None:
    rng = np.random.default_rng(0)
    cameras = [
        Camera.perspective(60, 40, 50.0, look_at((x, -4.0, y), (x, 4.0, y))) for x, y in rng.uniform(-0.4, 0.4, (20, 2))
    ]  # parallel axes: nothing says how far away the scene is but the box
    seen = overview(cameras, UNIT_BOX)
    assert not seen.surrounds
    assert float(seen.up[2]) > 0.999
    assert np.abs(seen.centre).max() <= 1.0
    film = camera_path("auto", cameras, UNIT_BOX, seconds=2)
    assert np.abs(positions(film.cameras)[:, [0, 2]]).max() < 0.8
    forward = np.stack([-camera.camera_to_world[:, 2] for camera in film.cameras])
    assert forward[:, 1].min() > 0.9


@pytest.mark.parametrize("turn", [np.eye(3), TILT])
def test_orbit_is_a_seamless_turntable(turn: np.ndarray) -> None:
    film = camera_path("orbit", ring(up=turn), UNIT_BOX, seconds=2.0, fps=15)
    assert len(film) == 30
    assert film.loop
    steps = speeds(film.cameras, loop=True)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    place = positions(film.cameras)
    np.testing.assert_allclose(np.linalg.norm(place, axis=-1), 3.0, rtol=1e-2)
    np.testing.assert_allclose(place @ turn[:, 2], 3.0 * math.sin(0.4), rtol=1e-2)
    for camera in film.cameras:
        np.testing.assert_allclose(camera.project([[0.0, 0.0, 0.0]])[0][0], [30.0, 20.0], atol=0.1)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("spread", [2 * np.pi, 1.2])
def test_every_path_has_its_frames_and_stays_near(kind: str, spread: float) -> None:
    film = camera_path(kind, ring(spread=spread), UNIT_BOX, seconds=3.0, fps=10, size=(48, 36))
    assert len(film) == 30
    assert {(camera.width, camera.height) for camera in film.cameras} == {(48, 36)}
    distance = np.linalg.norm(positions(film.cameras), axis=-1)
    assert distance.min() > 0.5
    assert distance.max() < 6.0
    if film.loop:
        steps = speeds(film.cameras, loop=True)
        assert steps[-1] < 2.0 * steps.mean() + 1e-9  # no jump where the loop closes


def test_ellipse_and_along_have_constant_speed() -> None:
    stretched = [Camera.perspective(60, 40, 42.0, look_at(c.position * (1.0, 2.0, 1.0), (0, 0, 0))) for c in ring()]
    steps = speeds(camera_path("ellipse", stretched, UNIT_BOX, seconds=10.0).cameras, loop=True)
    assert steps.max() / steps.min() < 1.01
    steps = speeds(camera_path("along", stretched, UNIT_BOX, seconds=10.0).cameras)
    assert steps.max() / steps.min() < 1.01


def test_along_sorts_an_unordered_capture_into_a_tour() -> None:
    cameras = ring(spread=4.0)
    shuffled = [Camera.from_dict({**cameras[i].to_dict(), "name": ""}) for i in np.random.default_rng(1).permutation(40)]
    film = camera_path("along", [cameras[0], *shuffled], UNIT_BOX, seconds=4.0)
    assert speeds(film.cameras).sum() < 1.3 * speeds(cameras).sum()
    numbered = camera_path("along", cameras[::-1], UNIT_BOX, seconds=4.0)  # r_2 comes before r_10
    np.testing.assert_allclose(numbered.cameras[0].position, cameras[0].position, atol=1e-9)


def test_paths_of_a_field_without_cameras() -> None:
    for kind in ("auto", "orbit", "spiral", "ellipse"):
        film = camera_path(kind, [], UNIT_BOX, seconds=1.0)
        assert len(film) == 30
        assert np.isfinite(positions(film.cameras)).all()
    with pytest.raises(UserError, match="recorded"):
        camera_path("along", [], UNIT_BOX)
    with pytest.raises(UserError, match="did you mean 'orbit'"):
        camera_path("orbti", [], UNIT_BOX)
    with pytest.raises(UserError, match="positive"):
        camera_path("orbit", [], UNIT_BOX, seconds=0.0)


def test_recorded_cameras() -> None:
    field = Ball(1.0)
    assert recorded_cameras(field) == []
    field.metadata["cameras"] = [camera.to_dict() for camera in ring(3)]
    assert [camera.name for camera in recorded_cameras(field)] == ["r_0", "r_1", "r_2"]
    field.metadata["cameras"] = [{"width": 3}]
    with pytest.raises(UserError, match="recorded training cameras"):
        recorded_cameras(field)


def some_keys(loop: bool, count: int = 6) -> Keyframes:
    rng = np.random.default_rng(3)
    keys = []
    for i in range(count):
        a = 5.0 * ((i + 0.6 * rng.random()) / count) ** 1.5  # unevenly spaced
        eye = (3.0 + rng.uniform(-0.4, 0.4)) * np.array([math.cos(a), math.sin(a), rng.uniform(-0.2, 0.4)])
        keys.append(Keyframe(look_at(eye, rng.uniform(-0.3, 0.3, 3)), 30.0 + 10.0 * (i % 3), i / count))
    return Keyframes(tuple(keys), 40.0, 32, 24, loop)


@pytest.mark.parametrize("loop", [False, True])
def test_keyframes_are_passed_at_constant_speed(loop: bool) -> None:
    keys = some_keys(loop)
    cameras = keys.sample(30)
    assert len(cameras) == 1200
    steps = speeds(cameras, loop)
    assert steps.max() / steps.min() < 1.01
    place = positions(cameras)
    for key in keys.frames:  # the curve goes through every key, with its orientation and lens
        nearest = int(np.argmin(np.linalg.norm(place - key.camera_to_world[:, 3], axis=-1)))
        assert np.linalg.norm(place[nearest] - key.camera_to_world[:, 3]) < 0.6 * steps.mean()
        assert np.abs(cameras[nearest].camera_to_world[:, :3] - key.camera_to_world[:, :3]).max() < 0.06
        assert cameras[nearest].fov == pytest.approx(key.fov, abs=0.5)
    # Orientation turns smoothly: no step is many times its neighbours'.
    turn = np.array(
        [np.linalg.norm(a.camera_to_world[:, :3] - b.camera_to_world[:, :3]) for a, b in zip(cameras[1:], cameras, strict=False)]
    )
    assert turn.max() < 0.2


def test_channels_do_not_overshoot() -> None:
    cameras = some_keys(False).sample(30)
    fovs, times = np.array([c.fov for c in cameras]), np.array([c.time for c in cameras])
    assert fovs.min() >= 30.0 - 1e-9
    assert fovs.max() <= 50.0 + 1e-9
    assert (np.diff(times) >= -1e-12).all()


def test_keyframes_at_one_place_turn_on_the_spot() -> None:
    keys = [Keyframe(look_at((0, 0, 0), target), 40.0) for target in ((1, 0, 0), (0, 1, 0), (-1, 0.2, 0))]
    cameras = Keyframes(tuple(keys), 4.0, 8, 8).sample(10)
    assert len(cameras) == 40
    np.testing.assert_allclose(positions(cameras), 0.0, atol=1e-12)
    turn = np.array(
        [np.arccos(np.clip(a.camera_to_world[:, 2] @ b.camera_to_world[:, 2], -1, 1)) for a, b in zip(cameras[1:], cameras, strict=False)]
    )
    assert turn.min() > 0.02
    assert turn.max() < 0.2


def test_one_or_two_keyframes_suffice() -> None:
    key = Keyframe(look_at((1, 0, 0), (0, 0, 0)), 40.0, 0.3)
    still = Keyframes((key,), 1.0, 8, 8).sample(10)
    assert len(still) == 10
    assert still[3].time == 0.3
    for loop in (False, True):
        pair = Keyframes((key, Keyframe(look_at((0, 2, 0), (0, 0, 0)), 40.0, 0.6)), 1.0, 8, 8, loop).sample(10)
        assert np.isfinite(positions(pair)).all()
        np.testing.assert_allclose(pair[0].position, [1, 0, 0], atol=1e-9)


def test_quaternions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        q = rng.normal(size=4) * (rng.random(4) > 0.3) + 1e-12
        rotation = matrix_from_quaternion(q)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(matrix_from_quaternion(quaternion_from_matrix(rotation)), rotation, atol=1e-12)


def test_own_format_round_trip(tmp_path: Path) -> None:
    film = CameraPath(tuple(ring(5)), 24.0, loop=True)
    write_path(tmp_path / "a.json", film)
    again = read_path(tmp_path / "a.json")
    assert [c.to_dict() for c in again.cameras] == [c.to_dict() for c in film.cameras]
    assert (again.fps, again.loop) == (24.0, True)
    keys = some_keys(True)
    write_path(tmp_path / "b.json", CameraPath(tuple(keys.sample(12.0)), 12.0, True, keys))
    again = read_path(tmp_path / "b.json")
    assert again.keyframes is not None
    assert len(again.cameras) == 480
    np.testing.assert_allclose(positions(again.cameras), positions(keys.sample(12.0)), atol=1e-9)
    assert read_path(tmp_path / "b.json", size=(64, 20)).cameras[0].width == 64


def nerfstudio_file(cameras: list[Camera], **more: Any) -> dict[str, Any]:
    frames = []
    for camera in cameras:
        matrix = np.eye(4)
        matrix[:3] = camera.camera_to_world
        frames.append({"camera_to_world": matrix.ravel().tolist(), "fov": camera.fov, "aspect": 1.5})
    return {
        "camera_type": "perspective",
        "render_height": 40,
        "render_width": 60,
        "fps": 24,
        "seconds": 1,
        "is_cycle": True,
        "camera_path": frames,
        **more,
    }


def test_nerfstudio_path_and_its_way_back_to_the_photographs(tmp_path: Path) -> None:
    original = ring(4)
    path = tmp_path / "camera_path.json"
    path.write_text(json.dumps(nerfstudio_file(original)))
    film = read_path(path)
    assert (film.fps, film.loop, len(film)) == (24.0, True, 4)
    np.testing.assert_allclose(film.cameras[1].camera_to_world, original[1].camera_to_world, atol=1e-12)
    assert film.cameras[0].fov == pytest.approx(42.0)

    # As nerfstudio trains: x' = scale * (transform @ x)
    transform, scale = np.concatenate([TILT, [[0.3], [0.1], [-0.2]]], 1), 0.25
    trained = []
    for camera in original:
        pose = np.concatenate([TILT @ camera.camera_to_world[:, :3], scale * (TILT @ camera.position + transform[:, 3])[:, None]], 1)
        trained.append(Camera.perspective(60, 40, 42.0, pose))
    path.write_text(json.dumps(nerfstudio_file(trained, crop={"crop_center": [0, 0, 0]})))
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps({"transform": transform.tolist(), "scale": scale}))
    film = read_path(path)
    for got, expected in zip(film.cameras, original, strict=True):
        np.testing.assert_allclose(got.camera_to_world, expected.camera_to_world, atol=1e-9)
    assert any("crop" in note for note in film.notes)


def test_nerfstudio_fisheye_and_times(tmp_path: Path) -> None:
    content = nerfstudio_file(ring(3), camera_type="fisheye")
    for i, frame in enumerate(content["camera_path"]):
        frame["render_time"] = i / 2
    (tmp_path / "p.json").write_text(json.dumps(content))
    film = read_path(tmp_path / "p.json")
    assert film.cameras[0].distortion.model == "fisheye"
    assert [camera.time for camera in film.cameras] == [0.0, 0.5, 1.0]
    (tmp_path / "p.json").write_text(json.dumps({**content, "camera_type": "equirectangular"}))
    with pytest.raises(UserError, match="equirectangular"):
        read_path(tmp_path / "p.json")


def to_ngp(camera: Camera, scale: float, offset: np.ndarray) -> np.ndarray:
    """As instant-ngp loads a transforms.json pose: flip axes, scale and shift, then cycle the world's axes (x, y, z) -> (y, z, x)."""
    pose = camera.camera_to_world * (1, -1, -1, 1)
    pose[:, 3] = pose[:, 3] * scale + offset
    return pose[[1, 2, 0]]


def test_instant_ngp_path_and_export(tmp_path: Path) -> None:
    original, scale, offset = ring(5), 0.4, np.array([0.5, 0.4, 0.6])
    entries = []
    for i, camera in enumerate(original):
        pose = to_ngp(camera, scale, offset)
        w, x, y, z = quaternion_from_matrix(pose[:, :3])
        entries.append(
            {"R": [x, y, z, w], "T": pose[:, 3].tolist(), "fov": 42.0, "slice": 0, "scale": 1, "aperture_size": 0, "timestamp": i + 1}
        )
    path = tmp_path / "base_cam.json"
    path.write_text(json.dumps({"loop": True, "time": 0.5, "duration_seconds": 4.0, "path": entries}))
    film = read_path(path, ngp_scale=scale, ngp_offset=offset.tolist(), size=(60, 40))
    assert film.keyframes is not None
    assert len(film) == 120
    for key, camera in zip(film.keyframes.frames, original, strict=True):
        np.testing.assert_allclose(key.camera_to_world, camera.camera_to_world, atol=1e-9)
    assert film.notes

    export = {
        "cameras": [{"start": to_ngp(c, scale, offset).tolist(), "end": to_ngp(c, scale, offset).tolist()} for c in original],
        "resolution": [60, 40],
        "duration_seconds": 2.0,
        "fps": 20,
    }
    path.write_text(json.dumps(export))
    film = read_path(path, ngp_scale=scale, ngp_offset=offset.tolist())
    assert (len(film), film.fps) == (5, 20.0)
    np.testing.assert_allclose(film.cameras[2].camera_to_world, original[2].camera_to_world, atol=1e-9)


BAD = {
    "no json": "{",
    "a list": "[]",
    "foreign": '{"frames": []}',
    "empty": json.dumps(nerfstudio_file([])),
    "no pose": json.dumps({**nerfstudio_file(ring(2)), "camera_path": [{"fov": 40}]}),
    "short pose": json.dumps({**nerfstudio_file(ring(2)), "camera_path": [{"fov": 40, "camera_to_world": [1, 2, 3]}]}),
    "scaled pose": json.dumps(
        {**nerfstudio_file(ring(2)), "camera_path": [{"fov": 40, "camera_to_world": (2 * np.eye(4)).ravel().tolist()}]}
    ),
    "mirrored": json.dumps(
        {**nerfstudio_file(ring(2)), "camera_path": [{"fov": 40, "camera_to_world": np.diag([1, 1, -1, 1]).ravel().tolist()}]}
    ),
    "nan": json.dumps({**nerfstudio_file(ring(2)), "camera_path": [{"fov": 40, "camera_to_world": [math.nan] * 16}]}),
    "fov": json.dumps({**nerfstudio_file(ring(2)), "camera_path": [{"fov": 180, "camera_to_world": np.eye(4).ravel().tolist()}]}),
    "size": json.dumps({**nerfstudio_file(ring(2)), "render_width": 0}),
    "fps": json.dumps({**nerfstudio_file(ring(2)), "fps": -1}),
    "ngp quaternion": json.dumps({"path": [{"R": [0, 0, 0, 0], "T": [0, 0, 0], "fov": 40}]}),
    "ngp scalar": json.dumps({"path": [3]}),
    "newer": json.dumps({"format": "fieldmorph camera path", "version": 2, "fps": 30, "cameras": []}),
    "endless": json.dumps(
        {"format": "fieldmorph camera path", "version": 1, "fps": 30, "seconds": 1e30, "width": 4, "height": 4, "keyframes": []}
    ),
    "own pose": json.dumps({"format": "fieldmorph camera path", "version": 1, "fps": 30, "cameras": [{"camera_to_world": [[1]]}]}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "path.json"
    path.write_text(BAD[name])
    with pytest.raises(UserError) as caught:
        read_path(path)
    assert "path.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json"):
        read_path(tmp_path / "none.json")
    with pytest.raises(UserError):
        read_path(tmp_path)


def test_fitted_keeps_height_and_square_pixels() -> None:
    camera = ring(1)[0]
    wide = camera.fitted(200, 80)
    assert wide.fov == pytest.approx(camera.fov)
    assert wide.fx == pytest.approx(wide.fy)
    np.testing.assert_allclose(wide.project([[0.0, 0.0, 0.0]])[0][0], [100.0, 40.0], atol=1e-9)
