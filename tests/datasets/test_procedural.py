"""The project's own scene: exact geometry, exact cameras, pictures that change with the view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fieldmorph.datasets.procedural import geometry, layout, make_scene
from fieldmorph.datasets.procedural.poses import camera, random_cameras
from fieldmorph.datasets.scene import load_scene
from fieldmorph.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:fieldmorph.kernels")


def test_kinds_are_numbered_alike() -> None:
    from fieldmorph.datasets.procedural import solids

    for name in "SPHERE BAND TORUS ROD DISK BOX ARC GEAR POSTS TURNED".split():
        assert getattr(layout, name) == getattr(solids, name)
    assert geometry(0).model.objects.shape[1] == solids.SURFACE + 10


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_everything_lies_within_the_bounds(seed: int) -> None:
    scene = geometry(seed)
    lower, upper = scene.bounds
    rng = np.random.default_rng(0)
    faces = rng.uniform(lower, upper, (6000, 3))
    axis = rng.integers(0, 3, 6000)
    faces[np.arange(6000), axis] = np.where(rng.random(6000) < 0.5, lower[axis], upper[axis])
    assert scene.distance(faces).min() > 0.0
    # From any point a step of its distance meets no surface: the value never exceeds the true distance.
    assert scene.distance(rng.uniform(lower, upper, (2000, 3))).max() < np.linalg.norm(upper - lower)


def test_distances_of_the_sun_and_a_point_inside_it() -> None:
    scene = geometry(0)
    points = layout.CENTRE + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.05]])
    assert scene.distance(points) == pytest.approx([-0.15, -0.10])
    assert scene.inside(points).all()
    assert not scene.inside([[0.0, 0.0, 2.0]]).any()
    with pytest.raises(ValueError, match="finite"):
        scene.distance([[np.nan, 0.0, 0.0]])


def test_distance_is_a_lower_bound_everywhere() -> None:
    """Lipschitz: two points' distances differ by no more than they are apart."""
    scene = geometry(3)
    rng = np.random.default_rng(1)
    a = rng.uniform(-1.0, 1.0, (20000, 3))
    b = a + rng.normal(size=a.shape) * 10.0 ** rng.uniform(-4, -0.5, (20000, 1))
    apart = np.linalg.norm(a - b, axis=1)
    assert (np.abs(scene.distance(a) - scene.distance(b)) <= apart * (1.0 + 1e-9) + 1e-12).all()


def test_traced_depth_ends_on_the_surface_and_normals_point_out_of_it() -> None:
    scene = geometry(0)
    view = camera(np.array([2.4, -2.4, 2.1]), 64)
    trace = scene.trace(view, samples=1)
    hit = trace.objects >= 0
    assert 0.1 < hit.mean() < 0.6
    np.testing.assert_array_equal(hit, trace.rgba[..., 3] == 1.0)
    rays = view.rays()
    t = trace.depth[hit].astype(np.float64)
    ends = rays.origins.double().numpy()[hit.ravel()] + t[:, None] * rays.directions.double().numpy()[hit.ravel()]
    assert np.abs(scene.distance(ends)).max() < 1e-4
    normals = trace.normals[hit]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)
    assert (scene.distance(ends + 2e-3 * normals) > 0.0).mean() > 0.98
    # No surface was jumped over on the way: every ray's earlier part is outside.
    early = rays.origins.double().numpy()[hit.ravel()] + (t * 0.999)[:, None] * rays.directions.double().numpy()[hit.ravel()]
    assert (scene.distance(early) > -1e-6).all()


def test_the_empty_space_grid_changes_nothing() -> None:
    """Sphere tracing with all objects at every step finds the same depths."""
    scene = geometry(0)
    view = camera(np.array([-2.8, 1.5, 2.4]), 24)
    trace = scene.trace(view, samples=1)
    rays = view.rays()
    origins, directions = rays.origins.double().numpy(), rays.directions.double().numpy()
    t = np.full(len(origins), 2.0)
    for _ in range(300):
        d = scene.distance(origins + t[:, None] * directions)
        t = np.where(t < 6.5, t + np.maximum(d, 0.0), t)
    hit = t < 6.5
    np.testing.assert_array_equal(hit, (trace.objects >= 0).ravel())
    np.testing.assert_allclose(t[hit], trace.depth.ravel()[hit], atol=2e-3)


def test_colour_depends_on_the_view() -> None:
    """The same point of the mirror ball differs between two cameras by more than a rounding error."""
    scene = geometry(0)
    ball = scene.names.index("mirror ball")
    centre = scene.model.objects[ball, 9:12]
    top = centre + np.array([0.0, 0.0, scene.model.objects[ball, 13]])
    eyes = np.array([[2.5, -2.5, 3.0], [-2.5, -2.5, 3.0], [0.5, 3.0, 3.0]])
    directions = (top - eyes) / np.linalg.norm(top - eyes, axis=1, keepdims=True)
    colours, _, _, which = scene.trace_rays(eyes, directions)
    seen = colours[which == ball, :3]
    assert len(seen) >= 2
    assert np.ptp(seen, axis=0).max() > 0.05


def test_a_scene_on_disk_matches_the_geometry_pixel_for_pixel(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    out = make_scene(tmp_path / "scene", size=48, train=4, val=1, test=3, seed=5, progress=lambda *state: done.append(state))
    assert done == [(k, 8) for k in range(1, 9)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene"]
    scene = load_scene(out)
    assert scene.format == "blender"
    assert not scene.warnings
    assert {name: len(indices) for name, indices in scene.split.items()} == {"train": 4, "val": 1, "test": 3}
    assert scene.facts["procedural"] == {"seed": 5}
    view = scene.cameras[2]
    again = geometry(5).trace(view)
    np.testing.assert_allclose(scene.images.load(2), again.rgba * 255.0, atol=2.0)
    alpha = scene.images.load(2)[..., 3]
    assert ((alpha > 0) & (alpha < 255)).any()
    # A point of the surface projects to the pixel that shows it.
    row, column = np.argwhere((again.objects >= 0) & (again.rgba[..., 3] == 1.0))[40]
    ray = view.rays([[column + 0.5, row + 0.5]])
    point = ray.origins.numpy() + again.depth[row, column] * ray.directions.numpy()
    assert view.project(point)[0].numpy()[0] == pytest.approx([column + 0.5, row + 0.5], abs=1e-3)
    # The whole scene is inside the box the reader derives.
    lower, upper = np.array(scene.space.lower), np.array(scene.space.upper)
    assert (lower < -1.02).all()
    assert (upper > 1.02).all()


def test_the_same_seed_makes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    folders = [make_scene(tmp_path / str(k), size=16, train=1, val=0, test=0, seed=seed) for k, seed in enumerate((0, 0, 1))]
    pictures = [(folder / "train/r_0.png").read_bytes() for folder in folders]
    assert pictures[0] == pictures[1] != pictures[2]
    poses = [json.loads((folder / "transforms_train.json").read_text()) for folder in folders]
    assert poses[0] == poses[1]
    assert poses[0]["frames"] != poses[2]["frames"]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="full"):
            make_scene(tmp_path / "full", size=16, train=1, overwrite=overwrite)
    assert (tmp_path / "full/letter.txt").read_text() == "mine"
    for options in ({"size": 2}, {"train": 0}, {"test": -1}, {"seed": -1}, {"samples": 0}):
        with pytest.raises(UserError):
            make_scene(tmp_path / "new", **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        make_scene(tmp_path / "file")
    assert not (tmp_path / "new").exists()


def test_overwrite_replaces_a_scene_and_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    out = make_scene(tmp_path / "scene", size=16, train=2, val=0, test=0)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scene(out, size=24, train=1, val=0, test=0, overwrite=True, progress=stop)
    assert load_scene(out).cameras[0].width == 16
    make_scene(out, size=24, train=1, val=0, test=0, overwrite=True)
    assert load_scene(out, holdout=0).cameras[0].width == 24
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene"]


def test_cameras_keep_their_distance_and_look_at_the_middle() -> None:
    cameras = random_cameras(60, 64, np.random.default_rng(0), "train")
    places = np.stack([view.position for view in cameras])
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 4.0)
    assert (places[:, 2] > 0.0).all()
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9.0 * np.eye(60)
    assert gaps.min() > 0.25
