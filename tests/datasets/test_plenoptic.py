"""Multi-view videos: what is made is what is read, and a known point lands on its pixel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmorph.datasets.plenoptic import DONE, TABLE, rig_axes
from fieldmorph.datasets.procedural.movers import Moment
from fieldmorph.datasets.procedural.video import make_video_scene, rig
from fieldmorph.datasets.scene import load_scene
from fieldmorph.errors import UserError

CAMERAS, FRAMES, WIDTH, HEIGHT = 3, 4, 48, 36


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video") / "clip"
    return make_video_scene(folder, cameras=CAMERAS, frames=FRAMES, width=WIDTH, height=HEIGHT, samples=1)


@pytest.fixture
def clip(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "clip"))


def test_reading_gives_the_cameras_that_filmed(clip: Path) -> None:
    scene = load_scene(clip)
    assert scene.format == "plenoptic"
    assert (scene.facts["frames"], scene.facts["views"]) == (FRAMES, CAMERAS)
    assert [len(scene.split[name]) for name in ("train", "val", "test")] == [(CAMERAS - 1) * FRAMES, 0, FRAMES]
    axes = np.array(scene.facts["axes"])
    for k, view in enumerate(rig(CAMERAS, WIDTH, HEIGHT)):
        for f in range(FRAMES):
            camera = scene.cameras[k * FRAMES + f]
            assert camera.name == f"cam{k:02d}/{f:05d}"
            assert camera.time == pytest.approx(f / (FRAMES - 1))
            assert np.allclose(camera.camera_to_world, axes @ view.camera_to_world, atol=1e-9)
            assert camera.fx == pytest.approx(view.fx)
    corner = np.array([[0.3, 0.6, -0.57]])  # the middle of the stone
    pixels = [camera.project(corner @ axes.T)[0][0] for camera in scene.cameras[::FRAMES]]
    for pixel, view in zip(pixels, rig(CAMERAS, WIDTH, HEIGHT), strict=True):
        assert np.allclose(pixel, view.project(corner)[0][0], atol=1e-6)
        which = Moment(0, 0.0).trace(view, samples=1).objects[int(pixel[1]), int(pixel[0])]
        assert Moment(0, 0.0).names[which] == "stone"


def test_the_scene_is_turned_to_its_rig(clip: Path) -> None:
    scene = load_scene(clip)
    axes = np.array(scene.facts["axes"])
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-12) and np.linalg.det(axes) == pytest.approx(1.0)
    poses = np.stack([camera.camera_to_world for camera in scene.cameras])
    back = poses[:, :, 2].mean(0)
    assert np.allclose(back / np.linalg.norm(back), [0.0, 0.0, 1.0], atol=1e-6)
    assert np.allclose(scene.up, [0.0, 1.0, 0.0], atol=0.2)
    table = np.load(clip / TABLE)
    around = np.random.default_rng(0).permutation(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    around *= np.linalg.det(around)
    turned = table.copy().reshape(-1, 17)
    turned[:, :15] = np.concatenate(
        [around @ table[:, :15].reshape(-1, 3, 5)[:, :, :4], table[:, :15].reshape(-1, 3, 5)[:, :, 4:]], 2
    ).reshape(-1, 15)
    np.save(clip / TABLE, turned)
    again = np.stack([camera.camera_to_world for camera in load_scene(clip).cameras])
    assert np.allclose(again, poses, atol=1e-9), "how the table's axes lie does not matter"


def test_cameras_all_around_keep_the_axes_of_the_table(clip: Path) -> None:
    table = np.load(clip / TABLE)
    pose = table[0, :15].reshape(3, 5)
    opposite = pose.copy()
    opposite[:, 1:3] *= -1.0  # right and back
    both = np.stack([np.concatenate([p.reshape(-1), table[0, 15:]]) for p in (pose, opposite)])
    assert np.array_equal(rig_axes(both), np.eye(3))


def test_frames_are_close_to_what_was_traced(clip: Path) -> None:
    """Test frames are the exact ones; those to train on went through a video encoder."""
    scene = load_scene(clip)
    exact = np.asarray(Image.open(clip / "ground_truth" / "00002.png"))
    assert np.array_equal(scene.images.load(2), exact)
    decoded = np.asarray(Image.open(clip / "frames" / "cam00" / "00002.png"))
    error = float(np.square((decoded.astype(float) - exact) / 255.0).mean())
    assert -10.0 * np.log10(error) > 25.0
    others = np.asarray(Image.open(clip / "frames" / "cam00" / "00000.png"))
    assert np.abs(others.astype(int) - decoded).max() > 60, "something moves"
    masks = [np.asarray(Image.open(clip / "ground_truth" / f"moving-{f:05d}.png")) > 0 for f in range(FRAMES)]
    assert all(0.005 < mask.mean() < 0.5 for mask in masks)


def test_things_move_appear_and_vanish() -> None:
    names = [set(Moment(0, t).names) for t in (0.0, 0.28, 0.74)]
    assert "cube 0" in names[1] - names[0] and "cube 1" in names[2] - names[1]
    a, b = Moment(0, 0.1), Moment(0, 0.15)
    for k, name in enumerate(a.names):
        same = np.array_equal(a.model.objects[k], b.model.objects[b.names.index(name)])
        assert same != bool(a.moving[k]), name


def test_decoding_goes_on_and_is_done_once(clip: Path) -> None:
    load_scene(clip)
    file = clip / "frames" / "cam01" / "00001.png"
    before = file.stat().st_mtime_ns
    load_scene(clip)
    assert file.stat().st_mtime_ns == before
    (clip / "frames" / "cam01" / DONE).unlink()
    file.unlink()
    assert len(load_scene(clip).cameras) == CAMERAS * FRAMES
    assert file.exists()


def test_broken_clips_are_refused(clip: Path) -> None:
    table = np.load(clip / TABLE)
    for change, word in (
        (table[:2], "3 videos"),
        (table[:, :16], "17"),
        (np.where(np.arange(17) == 4, -1.0, table), "positive"),
        (np.where(np.arange(17) == 0, 5.0, table), "rotation"),
        (np.full_like(table, np.nan), "finite"),
    ):
        np.save(clip / TABLE, change)
        with pytest.raises(UserError, match=word):
            load_scene(clip)
    (clip / TABLE).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        load_scene(clip)
    np.save(clip / TABLE, table)
    (clip / "cam01.mp4").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"cam01\.mp4: is not a video"):
        load_scene(clip)


def test_impossible_clips_are_not_begun(tmp_path: Path) -> None:
    for options in ({"cameras": 1}, {"frames": 1}, {"width": 33}, {"seed": -1}):
        with pytest.raises(UserError):
            make_video_scene(tmp_path / "clip", **options)  # type: ignore[arg-type]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        make_video_scene(tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "mine.txt").exists()
