"""Cameras: known points land on known pixels, and every lens inverts itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmorph.render.camera import Camera, CameraSet, Distortion, look_at, pixel_centres

FOX = Distortion("opencv", (0.0578421, -0.0805099, 0.0, 0.0, -0.000980296, 0.00015575))
BARREL = Distortion("opencv", (-0.35, 0.12, -0.01, 0.002, 0.001, -0.002))
FISHEYE = Distortion("fisheye", (0.05, -0.01, 0.003, -0.0005))
LENSES = [None, FOX, BARREL, FISHEYE]


def camera(lens: Distortion | None = None, width: int = 64, height: int = 48, focal: float = 60.0) -> Camera:
    pose = look_at((3.0, -2.0, 1.5), (0.1, 0.2, -0.1))
    return Camera(width, height, focal, focal * 1.03, width / 2 + 0.7, height / 2 - 1.1, pose, lens)


def test_known_point_lands_on_known_pixel() -> None:
    # At (0, 0, 2) looking down -Z: a point one right and half up at distance 2 is right of and above the centre.
    pose = np.eye(4)
    pose[2, 3] = 2.0
    pixels, depth = Camera(100, 80, 50.0, 50.0, 50.0, 40.0, pose).project([[1.0, 0.5, 0.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(pixels[0], [50.0 + 25.0, 40.0 - 12.5])
    np.testing.assert_allclose(depth, [2.0, -1.0])
    assert pixels[1].isnan().all()


def test_opencv_formula_by_hand() -> None:
    k1, k2, k3, k4, p1, p2 = 0.1, -0.05, 0.02, 0.01, 0.003, -0.002
    x, y = 0.4, -0.3  # OpenCV axes: y down, so the world point is above
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    expected = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)
    pinhole = Camera(10, 10, 1.0, 1.0, 0.0, 0.0, np.eye(4), Distortion("opencv", (k1, k2, k3, k4, p1, p2)))
    np.testing.assert_allclose(pinhole.project([[x * 3, -y * 3, -3.0]])[0][0], expected, rtol=1e-12)


def test_fisheye_formula_by_hand() -> None:
    k = (0.05, -0.01, 0.003, -0.0005)
    angle = 1.9  # more than 90 degrees: behind the camera's plane, still seen
    bent = angle * (1 + sum(c * angle ** (2 * i + 2) for i, c in enumerate(k)))
    point = [math.sin(angle), 0.0, -math.cos(angle)]
    pixels, depth = Camera(10, 10, 2.0, 2.0, 5.0, 5.0, np.eye(4), Distortion("fisheye", k)).project([point])
    np.testing.assert_allclose(pixels[0], [5.0 + 2.0 * bent, 5.0], rtol=1e-12)
    assert depth[0] < 0


@pytest.mark.parametrize("lens", LENSES)
def test_project_inverts_rays(lens: Distortion | None) -> None:
    view = camera(lens)
    xy = pixel_centres(view.width, view.height)
    rays = view.rays()
    np.testing.assert_allclose(rays.directions.norm(dim=-1), 1.0, atol=1e-6)
    points = rays.origins.double() + 3.7 * rays.directions.double()
    pixels, depth = view.project(points)
    np.testing.assert_allclose(pixels, xy, atol=2e-4)  # float32 directions, focal length 60
    assert (depth > 0).all()


coefficient = st.floats(-0.4, 0.4)


@settings(max_examples=100)
@given(st.tuples(coefficient, coefficient, coefficient, coefficient, st.floats(-0.02, 0.02), st.floats(-0.02, 0.02)), st.integers(0, 10**6))
def test_opencv_round_trip_inside_the_invertible_region(params: tuple[float, ...], seed: int) -> None:
    lens = Distortion("opencv", params)
    rng = np.random.default_rng(seed)
    radius = (0.75 if params[4] or params[5] else 0.999) * min(lens.limit, 1.2)  # tangential terms move the fold inwards a little
    turn = rng.uniform(0, 2 * np.pi, 50)
    ideal = radius * np.sqrt(rng.uniform(0, 1, (50, 1))) * np.stack([np.cos(turn), np.sin(turn)], -1)
    directions = np.concatenate([ideal, np.ones((50, 1))], -1)
    image = lens.to_image(directions)
    back = lens.to_directions(image)
    again = lens.to_image(back)
    np.testing.assert_allclose(again, image, atol=1e-7)


@settings(max_examples=100)
@given(st.tuples(coefficient, coefficient, coefficient, coefficient), st.integers(0, 10**6))
def test_fisheye_round_trip(params: tuple[float, ...], seed: int) -> None:
    lens = Distortion("fisheye", params)
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 0.999, 50) * lens.limit
    turn = rng.uniform(0, 2 * np.pi, 50)
    directions = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], -1)
    np.testing.assert_allclose(lens.to_directions(lens.to_image(directions)), directions, atol=1e-5)


@settings(max_examples=80)
@given(
    st.sampled_from(["opencv", "fisheye"]),
    st.tuples(*[st.floats(-5, 5)] * 6),
    st.floats(-20, 20, allow_nan=False),
    st.floats(-20, 20, allow_nan=False),
)
def test_any_lens_any_pixel_gives_a_unit_direction(model: str, params: tuple[float, ...], x: float, y: float) -> None:
    lens = Distortion(model, params if model == "opencv" else params[:4])
    direction = lens.to_directions(np.array([[x, y], [0.0, 0.0]]))
    np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1.0, atol=1e-9)
    assert abs(direction[1, 2] - 1.0) < 1e-9


def test_folded_region_is_clamped_to_its_border() -> None:
    lens = Distortion("opencv", (-0.5, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert lens.limit == pytest.approx(math.sqrt(1 / 1.5))
    direction = lens.to_directions(np.array([[5.0, 0.0]]))[0]
    # The fold's slope is zero there, so the iteration approaches it from inside.
    assert direction[0] / direction[2] == pytest.approx(lens.limit, rel=1e-3)
    assert np.isnan(lens.to_image(np.array([[1.0, 0.0, 1.0]]))).all()


@pytest.mark.parametrize("lens", LENSES)
def test_camera_set_agrees_with_its_cameras(lens: Distortion | None) -> None:
    views = [camera(None), camera(lens), camera(lens, 80, 60, 75.0)]
    cameras = CameraSet(views)
    rng = np.random.default_rng(0)
    index = rng.integers(0, 3, 500)
    size = np.array([[v.width, v.height] for v in views])[index]
    for xy in (np.floor(rng.uniform(0, 1, (500, 2)) * size) + 0.5, rng.uniform(0, 1, (500, 2)) * size):
        rays = cameras.rays(torch.from_numpy(index), torch.from_numpy(xy))
        for i, view in enumerate(views):
            expected = view.rays(xy[index == i])
            assert (rays.directions[index == i] - expected.directions).norm(dim=-1).max() * view.fx < 5e-3
            assert torch.equal(rays.origins[index == i], expected.origins)
    assert rays.directions.dtype == torch.float32


def test_camera_set_without_a_table_iterates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmorph.render.camera.LOOKUP_BYTES", 100)
    view = camera(BARREL)
    cameras = CameraSet([view])
    assert cameras._tables == [None]
    xy = torch.rand(50, 2) * 40
    assert torch.allclose(cameras.rays(torch.zeros(50, dtype=torch.long), xy).directions, view.rays(xy).directions, atol=1e-6)


def test_camera_set_handles_no_rays_and_times() -> None:
    cameras = CameraSet([camera(BARREL), camera()])
    assert len(cameras.rays(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))) == 0
    assert cameras.times is None
    assert len(CameraSet([])) == 0


@pytest.mark.parametrize("lens", LENSES)
def test_dict_round_trip_and_resize(lens: Distortion | None) -> None:
    view = camera(lens)
    again = Camera.from_dict(json.loads(json.dumps(view.to_dict())))
    assert again.to_dict() == view.to_dict()
    assert np.array_equal(again.camera_to_world, view.camera_to_world)
    half = view.resized(32, 24)
    point = [[0.1, 0.0, 0.2]]
    np.testing.assert_allclose(half.project(point)[0] * 2.0, view.project(point)[0], rtol=1e-12)


def test_look_at_and_fov() -> None:
    pose = look_at((0.0, -4.0, 0.0), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:, :3]) == pytest.approx(1.0)
    view = Camera.perspective(50, 50, 40.0, pose)
    np.testing.assert_allclose(view.project([[0.0, 0.0, 0.0]])[0][0], [25.0, 25.0], atol=1e-9)
    assert view.project([[0.0, 0.0, 1.0]])[0][0, 1] < 25.0  # world up is up in the picture
    assert view.fov == pytest.approx(40.0)
    straight_down = look_at((0.0, 0.0, 3.0), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(straight_down[:, :3] @ straight_down[:, :3].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("bad", [{"fx": 0.0}, {"width": 0}, {"cx": math.nan}, {"camera_to_world": np.zeros((2, 2))}])
def test_impossible_cameras_are_refused(bad: dict) -> None:
    good = {"width": 4, "height": 4, "fx": 1.0, "fy": 1.0, "cx": 2.0, "cy": 2.0, "camera_to_world": np.eye(4)}
    with pytest.raises(ValueError):
        Camera(**{**good, **bad})


def test_wrong_lens_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="6 finite parameters"):
        Distortion("opencv", (0.1,))
    with pytest.raises(ValueError, match="fisheye"):
        Distortion("pinhole", ())  # type: ignore[arg-type]
