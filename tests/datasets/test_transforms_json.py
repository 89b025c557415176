"""The reader of transforms.json: every field, and a known point on a known pixel."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from dataset_files import POSE, around, frames, write_image, write_object, write_transforms
from PIL import Image

from fieldmorph.datasets.scene import load_scene
from fieldmorph.errors import UserError

POINT = [[0.5, 0.25, 0.0]]
"""Seen from POSE at depth 4: x / z = 0.125 to the right, y / z = 0.0625 up."""


def _pixel(scene, index: int = 0) -> np.ndarray:
    return scene.cameras[index].project(POINT)[0].numpy()[0]


def test_a_known_point_lands_on_a_known_pixel(tmp_path: Path) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE]), fl_x=50.0, fl_y=60.0, cx=21.0, cy=14.0, w=40.0, h=30.0)
    scene = load_scene(tmp_path)
    assert _pixel(scene) == pytest.approx([21.0 + 50.0 * 0.125, 14.0 - 60.0 * 0.0625], abs=1e-9)
    assert scene.format == "transforms"


def test_a_distorted_point_lands_where_opencvs_formula_puts_it(tmp_path: Path) -> None:
    lens = {"k1": 0.3, "k2": -0.2, "k3": 0.1, "k4": 0.05, "p1": 0.01, "p2": -0.02}
    write_transforms(tmp_path, frames(tmp_path, [POSE]), fl_x=50.0, **lens)
    x, y = 0.125, -0.0625  # OpenCV's y points down
    r2 = x * x + y * y
    radial = 1 + 0.3 * r2 - 0.2 * r2**2 + 0.1 * r2**3 + 0.05 * r2**4
    u = x * radial + 2 * 0.01 * x * y - 0.02 * (r2 + 2 * x * x)
    v = y * radial + 0.01 * (r2 + 2 * y * y) + 2 * -0.02 * x * y
    assert _pixel(load_scene(tmp_path)) == pytest.approx([20.0 + 50.0 * u, 15.0 + 50.0 * v], abs=1e-9)


@pytest.mark.parametrize("said", [{"is_fisheye": True}, {"camera_model": "OPENCV_FISHEYE"}])
def test_a_fisheye_point_lands_where_the_equidistant_formula_puts_it(tmp_path: Path, said: dict) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE]), fl_x=50.0, k1=0.1, k2=0.02, k3=0.003, k4=0.0004, **said)
    r = math.hypot(0.125, 0.0625)
    t = math.atan(r)
    bent = t * (1 + 0.1 * t**2 + 0.02 * t**4 + 0.003 * t**6 + 0.0004 * t**8)
    assert _pixel(load_scene(tmp_path)) == pytest.approx([20 + 50 * bent * 0.125 / r, 15 - 50 * bent * 0.0625 / r], abs=1e-9)


@pytest.mark.parametrize(
    ("top", "frame", "focal"),
    [
        ({"fl_x": 50.0}, {}, (50.0, 50.0)),  # a missing axis copies the other
        ({"fl_y": 60.0}, {}, (60.0, 60.0)),
        ({"fl_x": 50.0, "camera_angle_y": 1.0}, {}, (50.0, 15.0 / math.tan(0.5))),  # each axis on its own
        ({"camera_angle_x": 0.5, "fl_x": 50.0}, {}, (50.0, 50.0)),  # fl_x over camera_angle_x
        ({"x_fov": 90.0, "fl_x": 50.0}, {}, (20.0, 20.0)),  # x_fov over both
        ({"x_fov": 90.0}, {"fl_x": 33.0}, (33.0, 33.0)),  # the frame's own object wins
        ({}, {"fl_x": 33.0, "fl_y": 34.0}, (33.0, 34.0)),
    ],
)
def test_focal_length_precedence(tmp_path: Path, top: dict, frame: dict, focal: tuple[float, float]) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE], **frame), **top)
    camera = load_scene(tmp_path).cameras[0]
    assert (camera.fx, camera.fy) == pytest.approx(focal)
    assert (camera.cx, camera.cy) == (20.0, 15.0)


def test_distortion_params_replace_the_single_ones(tmp_path: Path) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE]), k1=9.0, distortion_params=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    lens = load_scene(tmp_path).cameras[0].distortion
    assert lens is not None
    assert lens.params == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def test_an_all_zero_lens_is_a_pinhole(tmp_path: Path) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE]), k1=0.0, p1=0.0, camera_model="OPENCV")
    assert load_scene(tmp_path).cameras[0].distortion is None


def test_comments_trailing_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_transforms(tmp_path, frames(tmp_path, [POSE]), fl_x=50.0)
    text = json.dumps(json.loads(path.read_text()), indent=1)[1:].replace(
        '"fl_x": 50.0,', '"fl_x": 50.0, // "fl_y": 1,\n /* "w": 7, */ # hash'
    )
    path.write_text("\ufeff{ // camera\n" + text[:-1] + ",}", encoding="utf-8")
    assert load_scene(tmp_path).cameras[0].fy == 50.0


def test_names_windows_paths_missing_extensions_and_natural_order(tmp_path: Path) -> None:
    names = ["images\\r_10", "images/r_2", "./images/r_1.png"]
    for k in (1, 2, 10):
        write_image(tmp_path / f"images/r_{k}.png")
    write_transforms(tmp_path, [{"file_path": name, "transform_matrix": POSE} for name in names])
    scene = load_scene(tmp_path)
    assert [file.name for file in scene.images.files] == ["r_1.png", "r_2.png", "r_10.png"]
    assert [camera.name for camera in scene.cameras] == ["images/r_1.png", "images/r_2", "images/r_10"]


def test_every_eighth_picture_is_held_out_and_a_folder_path_equals_a_file_path(tmp_path: Path) -> None:
    path = write_transforms(tmp_path, frames(tmp_path, around(17)))
    scene = load_scene(tmp_path)
    assert scene.split["test"] == [0, 8, 16]
    assert scene.split["train"] == [i for i in range(17) if i % 8]
    assert load_scene(path).fingerprint == scene.fingerprint
    assert load_scene(tmp_path, holdout=0).split["test"] == []
    assert load_scene(tmp_path, holdout=5).split["test"] == [0, 5, 10, 15]


def test_the_files_own_split_wins(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(6))
    names = [frame["file_path"] for frame in listed]
    write_transforms(tmp_path, listed, train_filenames=names[2:], val_filenames=["./" + names[1]], test_filenames=[names[0]])
    assert load_scene(tmp_path).split == {"train": [2, 3, 4, 5], "val": [1], "test": [0]}
    write_transforms(tmp_path, listed, train_filenames=names[:4])
    assert load_scene(tmp_path).split == {"train": [0, 1, 2, 3], "val": [], "test": [4, 5]}


def test_masks_of_both_programs(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(2))
    mask = np.full((30, 40), 255, np.uint8)
    mask[:10] = 0
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(255 - mask).save(tmp_path / "images/dynamic_mask_001.png")  # any light pixel is ignored
    listed[0]["mask_path"] = "m.png"
    write_transforms(tmp_path, listed)
    scene = load_scene(tmp_path, holdout=0)
    valid = scene.images.valid_pixels([0, 1])
    assert valid is not None
    assert valid.tolist() == [*range(400, 1200), *range(1600, 2400)]
    assert any("mask_path" in line for line in scene.warnings)


def test_unsupported_and_unknown_fields_are_named_and_informative_ones_are_not(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(3), depth_file_path="d.png", colmap_im_id=3)
    write_transforms(tmp_path, listed, envmap="e.png", fl_xx=3, sharpen=0, applied_scale=0.5, ply_file_path="p.ply")
    scene = load_scene(tmp_path)
    text = "\n".join(scene.warnings)
    assert "'envmap'" in text
    assert "'depth_file_path'" in text
    assert "unknown field 'fl_xx'" in text
    assert "did you mean 'fl_x'?" in text
    assert "sharpen" not in text
    assert "colmap_im_id" not in text
    assert scene.facts["applied_scale"] == 0.5


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(4))
    (tmp_path / "images/002.png").unlink()
    write_transforms(tmp_path, listed)
    with pytest.raises(UserError, match=r"transforms\.json: 1 of its 4 pictures are missing: .*images/002\.png.*remove"):
        load_scene(tmp_path)


def test_n_frames_and_sharpness_discard(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(8))
    for k, frame in enumerate(listed):
        frame["sharpness"] = 1.0 if k == 3 else 30.0
    write_transforms(tmp_path, listed, n_frames=6, sharpness_discard_threshold=0.5)
    scene = load_scene(tmp_path)
    assert [file.stem for file in scene.images.files] == ["000", "001", "002", "004", "005"]
    assert any("003" in line for line in scene.warnings)


def test_exposure_motion_takes_the_middle_pose(tmp_path: Path) -> None:
    end = json.loads(json.dumps(POSE))
    end[0][3] = 1.0
    frame = frames(tmp_path, [POSE])[0]
    frame["transform_matrix_start"], frame["transform_matrix_end"] = frame.pop("transform_matrix"), end
    write_transforms(tmp_path, [frame])
    scene = load_scene(tmp_path)
    assert scene.cameras[0].position == pytest.approx([0.5, 0.0, 4.0])
    assert any("motion" in line for line in scene.warnings)


def test_photographs_get_an_unbounded_space_and_files_may_prescribe_the_box(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(9))
    write_transforms(tmp_path, listed, aabb_scale=4)
    space = load_scene(tmp_path).space
    assert space.unbounded
    assert space.upper == pytest.approx((2.4, 2.4, 2.4))  # 0.6 of the cameras' distance
    write_transforms(tmp_path, listed, aabb=[[-1, -2, -3], [1, 2, 3]])
    space = load_scene(tmp_path).space
    assert (space.lower, space.upper, space.unbounded) == ((-1, -2, -3), (1, 2, 3), True)
    write_transforms(tmp_path, listed, scale=0.5, offset=[0.5, 0.5, 0.25])
    space = load_scene(tmp_path).space
    assert space.lower == pytest.approx((-1.0, -1.0, -0.5))
    assert space.upper == pytest.approx((1.0, 1.0, 1.5))


def test_alpha_pictures_get_a_bounded_space_and_white_transparent_makes_alpha(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(9))
    for frame in listed:
        write_object(tmp_path / frame["file_path"])
    write_transforms(tmp_path, listed, fl_x=50.0)
    scene = load_scene(tmp_path)
    assert scene.has_alpha
    assert not scene.space.unbounded
    assert scene.space.upper == pytest.approx((1.6, 1.6, 1.6), rel=1e-4)  # 4 * 20 / 50: the longer side
    assert scene.background == "white"
    for frame in listed:
        write_image(tmp_path / frame["file_path"], colour=(255, 255, 255))
    write_transforms(tmp_path, listed, white_transparent=True)
    scene = load_scene(tmp_path)
    assert scene.has_alpha
    assert (scene.images.load(0)[..., 3] == 0).all()


def test_an_opaque_alpha_channel_is_a_photograph(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(9))
    for frame in listed:
        write_image(tmp_path / frame["file_path"], mode="RGBA")
    write_transforms(tmp_path, listed)
    scene = load_scene(tmp_path)
    assert not scene.has_alpha
    assert scene.images.load(0).shape == (30, 40, 3)


def test_time_and_up_are_read(tmp_path: Path) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE], time=0.25), up=[0, 2, 0])
    scene = load_scene(tmp_path)
    assert scene.cameras[0].time == 0.25
    assert scene.up == (0.0, 1.0, 0.0)


def test_fox(real_data: Path) -> None:
    scene = load_scene(real_data / "fox")
    assert len(scene.cameras) == 50
    assert len(scene.split["test"]) == 7
    assert not scene.warnings
    assert scene.cameras[0].distortion is not None
    assert scene.space.unbounded
