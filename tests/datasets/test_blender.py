"""NeRF-Synthetic folders, and what Images does with pixels."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_files import POSE, around, write_image, write_object, write_transforms
from PIL import Image

from fieldmorph.datasets.images import Images, decode_image
from fieldmorph.datasets.scene import load_scene
from fieldmorph.datasets.summary import draw_cameras, summarize
from fieldmorph.errors import UserError


def _folder(path: Path, splits: dict[str, int], border: bool = False) -> Path:
    for split, count in splits.items():
        listed = []
        for k, pose in enumerate(around(count)):
            write_object(path / split / f"r_{k}.png", (40, 40), border)
            listed.append({"file_path": f"./{split}/r_{k}", "rotation": 0.01, "transform_matrix": pose})
        write_transforms(path, listed, f"transforms_{split}.json", camera_angle_x=0.69)
    return path


def test_a_known_point_lands_on_a_known_pixel(tmp_path: Path) -> None:
    write_object(tmp_path / "train/r_0.png", (40, 40))
    write_transforms(
        tmp_path, [{"file_path": "./train/r_0", "transform_matrix": POSE}], "transforms_train.json", camera_angle_x=math.pi / 2
    )
    camera = load_scene(tmp_path).cameras[0]
    assert (camera.fx, camera.fy) == pytest.approx((20.0, 20.0))
    pixels, depth = camera.project([[1.0, 2.0, 0.0]])
    assert pixels.numpy()[0] == pytest.approx([25.0, 10.0])
    assert float(depth[0]) == pytest.approx(4.0)


def test_splits_box_near_and_pixels(tmp_path: Path) -> None:
    scene = load_scene(_folder(tmp_path, {"train": 6, "val": 2, "test": 3}))
    assert scene.format == "blender"
    assert {name: len(indices) for name, indices in scene.split.items()} == {"train": 6, "val": 2, "test": 3}
    half = 4.0 * math.tan(0.345)
    assert scene.space.upper == pytest.approx((half, half, half), rel=1e-4)
    assert not scene.warnings
    flat = math.sqrt(15.0)  # cameras at 60 degrees stand nearest, before a vertical edge
    assert scene.near == pytest.approx(math.hypot(0.5 * flat - half, math.sqrt(0.75) * flat - half), rel=2e-3)
    pixels, channels = scene.images.load_flat([0, 2])
    assert (pixels.shape, channels) == ((3200, 4), 4)
    np.testing.assert_array_equal(pixels[1600:].reshape(40, 40, 4), scene.images.load(2))
    np.testing.assert_array_equal(scene.images.load_all([0, 2])[1], scene.images.load(2))
    assert scene.image_bytes == 11 * 1600 * 4


def test_an_object_cut_off_by_every_picture_gets_the_larger_box(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"train": 6}, border=True)
    assert load_scene(folder, holdout=0).space.upper[0] == pytest.approx(4.0 * math.tan(0.345), rel=1e-4)


def test_only_training_views_hold_out_every_eighth_with_a_warning(tmp_path: Path) -> None:
    scene = load_scene(_folder(tmp_path, {"train": 9}))
    assert scene.split["test"] == [0, 8]
    assert "transforms_test.json" in scene.warnings[0]


def test_no_training_views(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no transforms_train\.json"):
        load_scene(_folder(tmp_path, {"test": 2}))


def test_a_copied_folder_has_the_same_fingerprint_and_another_pose_has_not(tmp_path: Path) -> None:
    first = load_scene(_folder(tmp_path / "a", {"train": 3}))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load_scene(tmp_path / "b").fingerprint == first.fingerprint
    path = tmp_path / "b/transforms_train.json"
    data = json.loads(path.read_text())
    data["frames"][0]["transform_matrix"][0][3] += 1e-6
    path.write_text(json.dumps(data))
    assert load_scene(tmp_path / "b").fingerprint != first.fingerprint


def test_pixels_beyond_the_cap_are_mapped_from_disk(tmp_path: Path) -> None:
    files = [write_image(tmp_path / f"{k}.png", colour=(k, 2, 3)) for k in range(3)]
    images = Images(files, [(40, 30)] * 3, 3, memory_cap=100)
    flat, _ = images.load_flat([2, 1])
    assert isinstance(flat, np.memmap)
    assert (flat[:1200, 0] == 2).all()
    assert (flat[1200:, 0] == 1).all()
    seen: list[tuple[int, int]] = []
    Images(files, [(40, 30)] * 3, 3).load_flat([0, 1, 2], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_room_for_mapped_pixels_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fieldmorph.datasets.images.os.posix_fallocate", full, raising=False)
    images = Images([write_image(tmp_path / "0.png")], [(40, 30)], 3, memory_cap=1)
    with pytest.raises(UserError, match="No space left"):
        images.load_flat([0])


def test_sixteen_bits_grey_and_palette(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 0x8123, np.uint16)).save(tmp_path / "grey.png")
    assert (decode_image(tmp_path / "grey.png", 3) == 0x81).all()
    Image.new("P", (4, 3)).save(tmp_path / "palette.png")
    assert decode_image(tmp_path / "palette.png", 4).shape == (3, 4, 4)


def test_summary_and_plan(tmp_path: Path) -> None:
    scene = load_scene(_folder(tmp_path, {"train": 4, "test": 2}))
    summary = summarize(scene)
    assert json.loads(json.dumps(summary.to_dict()))["images"] == {"train": 4, "val": 0, "test": 2}
    assert any("4 train" in line for line in summary.lines())
    draw_cameras(scene, tmp_path / "plan.png", size=200)
    with Image.open(tmp_path / "plan.png") as plan:
        assert plan.size == (400, 200)
        assert len(plan.getcolors(100000) or []) > 10
    with pytest.raises(UserError, match="cannot be written"):
        draw_cameras(scene, tmp_path / "none/plan.png", size=64)


def test_the_lego_lies_inside_its_box(real_data: Path) -> None:
    """Silhouettes: a ray through an opaque pixel crosses the box; those of all cameras meet well inside it."""
    scene = load_scene(real_data / "lego")
    assert {name: len(indices) for name, indices in scene.split.items()} == {"train": 100, "val": 10, "test": 25}
    assert scene.space.upper == pytest.approx((1.4512, 1.4512, 1.4512), abs=1e-3)
    lower, upper = np.array(scene.space.lower), np.array(scene.space.upper)
    axis = np.linspace(-2.0, 2.0, 48)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    for index in scene.split["train"][::5]:
        camera, alpha = scene.cameras[index], scene.images.load(index)[..., 3]
        x, y = np.floor(camera.project(points)[0].numpy()).astype(int).T
        seen = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        opaque = np.zeros(len(points), bool)
        opaque[seen] = alpha[y[seen], x[seen]] > 0
        points = points[opaque]
    assert len(points) > 100
    assert (points > lower).all()
    assert (points < upper).all()
