"""The viewer's camera: every move does what its name says, in the world and on the screen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.overview import overview
from fieldmorph.representations.space import Space
from fieldmorph.viewer.navigation import STEEPEST, Navigator

SPACE = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def ring(count: int = 6) -> list[Camera]:
    turns = 2.0 * np.pi * np.arange(count) / count
    poses = [look_at((4.0 * math.cos(t), 4.0 * math.sin(t), 1.5), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)) for t in turns]
    return [Camera.perspective(40, 30, 35.0, pose, name=f"{i}") for i, pose in enumerate(poses)]


@pytest.fixture
def navigator() -> Navigator:
    cameras = ring()
    return Navigator(overview(cameras, SPACE), cameras)


def on_screen(navigator: Navigator, point: np.ndarray) -> np.ndarray:
    """Fractions of a square view."""
    pixel, _ = Camera.perspective(100, 100, navigator.fov, navigator.pose).project(point[None])
    return pixel[0].numpy() / 100.0


def is_rotation(matrix: np.ndarray) -> bool:
    return bool(np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-9) and np.linalg.det(matrix) > 0.0)


def test_orbit_keeps_distance_and_focus_in_the_middle(navigator: Navigator) -> None:
    before, distance = navigator.position.copy(), navigator.distance
    for _ in range(200):
        navigator.orbit(0.013, 0.004)
    assert navigator.distance == pytest.approx(distance)
    assert np.linalg.norm(navigator.position - before) > 0.5 * distance
    np.testing.assert_allclose(on_screen(navigator, navigator.focus), 0.5, atol=1e-6)
    assert is_rotation(navigator.rotation)


def test_orbit_to_the_right_brings_the_left_side_to_view(navigator: Navigator) -> None:
    left_side = navigator.focus - 0.5 * navigator.rotation[:, 0]
    before = on_screen(navigator, left_side)[0]
    navigator.orbit(0.1, 0.0)
    assert on_screen(navigator, left_side)[0] > before  # what is in front follows the hand
    front = navigator.focus + 0.5 * navigator.rotation[:, 2]
    assert on_screen(navigator, front)[0] == pytest.approx(0.5, abs=1e-6)


def test_locked_up_axis_keeps_the_horizon_and_stops_at_the_poles(navigator: Navigator) -> None:
    for _ in range(50):
        navigator.orbit(0.02, 0.05)
    assert abs(float(navigator.rotation[:, 0] @ navigator.up)) < 1e-9
    assert math.asin(float(navigator.rotation[:, 2] @ navigator.up)) == pytest.approx(STEEPEST, abs=1e-6)
    navigator.up_locked = False
    for _ in range(50):
        navigator.orbit(0.0, 0.05)
    assert float(navigator.rotation[:, 1] @ navigator.up) < 0.9  # over the top


def test_pan_moves_the_grabbed_point_with_the_pointer(navigator: Navigator) -> None:
    point = navigator.focus + 0.7 * navigator.rotation[:, 2] + 0.2 * navigator.rotation[:, 0]
    depth = float((navigator.position - point) @ navigator.rotation[:, 2])
    before = on_screen(navigator, point)
    navigator.pan(0.1, -0.05, depth)
    np.testing.assert_allclose(on_screen(navigator, point) - before, (0.1, -0.05), atol=1e-6)


def test_dolly_in_and_out_returns(navigator: Navigator) -> None:
    before, distance = navigator.position.copy(), navigator.distance
    navigator.dolly(3.0)
    assert navigator.distance == pytest.approx(distance / 1.1**3)
    navigator.dolly(-3.0)
    np.testing.assert_allclose(navigator.position, before, atol=1e-9)
    for _ in range(500):
        navigator.dolly(1.0)
    assert navigator.distance > 0.0


def test_fly_forward_is_along_the_view_and_fast_is_five_times(navigator: Navigator) -> None:
    start, ahead = navigator.position.copy(), -navigator.rotation[:, 2].copy()
    navigator.fly(0, 0, 1, 0.5)
    step = navigator.position - start
    np.testing.assert_allclose(step / np.linalg.norm(step), ahead, atol=1e-9)
    assert np.linalg.norm(step) == pytest.approx(0.5 * navigator.speed)
    navigator.fly(0, 0, -1, 0.1, fast=True)
    np.testing.assert_allclose(navigator.position, start, atol=1e-9)
    navigator.fly(0, 1, 0, 1.0)
    np.testing.assert_allclose(navigator.position - start, navigator.up * navigator.speed, atol=1e-9)


def test_look_turns_in_place(navigator: Navigator) -> None:
    place, distance = navigator.position.copy(), navigator.distance
    navigator.look(0.2, 0.1)
    np.testing.assert_allclose(navigator.position, place, atol=1e-9)
    assert navigator.distance == pytest.approx(distance)
    np.testing.assert_allclose(on_screen(navigator, navigator.focus), 0.5, atol=1e-6)


def test_roll_frees_the_up_axis(navigator: Navigator) -> None:
    navigator.roll(0.3)
    assert not navigator.up_locked
    navigator.set_up((0.0, 0.0, 1.0))
    assert abs(float(navigator.rotation[2, 0])) < 1e-9


def test_focus_and_reset(navigator: Navigator) -> None:
    home = navigator.pose.copy()
    target = np.array([0.4, 0.3, -0.2])
    navigator.set_focus(target)
    np.testing.assert_allclose(on_screen(navigator, target), 0.5, atol=1e-6)
    navigator.set_focus(np.array([np.nan, 0.0, 0.0]))
    np.testing.assert_allclose(navigator.focus, target)
    navigator.focus_scene()
    np.testing.assert_allclose(navigator.focus, navigator.home.centre)
    navigator.reset()
    np.testing.assert_allclose(navigator.pose, home)


def test_stepping_through_training_cameras(navigator: Navigator) -> None:
    navigator.to_view(4)
    view = navigator.camera(80, 60)
    np.testing.assert_allclose(view.camera_to_world, navigator.cameras[4].camera_to_world)
    assert view.fy == pytest.approx(2.0 * navigator.cameras[4].fy)
    navigator.step_view(1)
    navigator.step_view(1)
    assert navigator.view_index == 0
    navigator.step_view(-1)
    assert navigator.view_index == 5
    navigator.orbit(0.01, 0.0)
    assert navigator.view_index is None
    navigator.step_view(1)
    assert navigator.view_index == 5  # the nearest, first


def test_ray_agrees_with_the_camera(navigator: Navigator) -> None:
    origin, direction = navigator.ray(0.25, 0.75, 80 / 60)
    rays = navigator.camera(80, 60).rays([[20.0, 45.0]])
    np.testing.assert_allclose(origin, rays.origins[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(direction, rays.directions[0].numpy(), atol=1e-6)


def test_without_cameras_there_is_a_view() -> None:
    navigator = Navigator(overview([], SPACE))
    navigator.step_view(1)
    assert navigator.view_index is None
    np.testing.assert_allclose(on_screen(navigator, np.zeros(3)), 0.5, atol=1e-6)
