"""Bad input: one sentence that names the file, and nothing but UserError."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_files import POSE, around, frames, write_image, write_transforms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmorph.datasets import fields
from fieldmorph.datasets.json_text import read_json, strip_comments
from fieldmorph.datasets.scene import load_scene
from fieldmorph.errors import UserError


def _fails(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_scene(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def _pose(row: int, column: int, value: float) -> list[list[float]]:
    pose = json.loads(json.dumps(POSE))
    pose[row][column] = value
    return pose


def test_nothing_there(tmp_path: Path) -> None:
    _fails(tmp_path / "nowhere", "nowhere", "no such file or folder")
    _fails(tmp_path, "no scene format", "transforms_train.json")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "line 1, column 1"),
        ('{"frames": [\n  {"a": }]}', "line 2, column 9"),
        ("[1, 2]", "JSON object"),
        ("{}", "'frames'"),
        ('{"frames": []}', "empty"),
        ('{"frames": [3]}', "frame 0"),
        ('{"frames": [{"transform_matrix": 1}]}', "file_path"),
        ("[" * 100000, "JSON"),
    ],
)
def test_json_that_is_no_scene(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "transforms.json").write_text(text)
    _fails(tmp_path, "transforms.json", part)


def test_json_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_bytes(b"\xff\xfe\x00\x01")
    _fails(tmp_path, "transforms.json", "not a text file")


@pytest.mark.parametrize(
    ("pose", "part"),
    [
        (_pose(0, 3, float("nan")), "NaN"),
        (_pose(0, 0, float("inf")), "NaN, infinity"),
        (_pose(0, 0, 1.5), "not a rigid motion"),
        (_pose(0, 0, -1.0), "mirrors"),
        (_pose(3, 0, 1.0), "last row"),
        ([[1, 2], [3]], "4 rows of 4"),
        ("unit", "4 rows of 4"),
        (None, "no transform_matrix"),
    ],
)
def test_bad_poses_name_their_frame(tmp_path: Path, pose: object, part: str) -> None:
    listed = frames(tmp_path, around(3))
    listed[1]["transform_matrix"] = pose
    write_transforms(tmp_path, listed)
    _fails(tmp_path, "transforms.json", "images/001.png", part)


@pytest.mark.parametrize(
    ("top", "part"),
    [
        ({"fl_x": 0.0}, "positive"),
        ({"fl_x": "50"}, "finite number"),
        ({"fl_x": float("nan")}, "finite number"),
        ({"fl_x": 10**400}, "finite number"),
        ({"camera_angle_x": 3.2}, "radians"),
        ({"x_fov": 180.0}, "degrees"),
        ({"fl_x": 50.0, "w": 80}, "40x30"),
        ({"fl_x": 50.0, "camera_model": "EQUIRECTANGULAR"}, "not supported"),
        ({"fl_x": 50.0, "camera_model": "OPENCW"}, "did you mean 'OPENCV'"),
        ({"fl_x": 50.0, "ftheta_p0": 1.0}, "f-theta"),
        ({"fl_x": 50.0, "distortion_params": [1, 2]}, "distortion_params"),
        ({"fl_x": 50.0, "distortion_params": [1, 2, 3, None, 5, 6]}, "distortion_params"),
        ({"fl_x": 50.0, "aabb": [[0, 0, 0], [1, 1, 0]]}, "empty"),
        ({"fl_x": 50.0, "aabb": 3}, "two corners"),
        ({"fl_x": 50.0, "up": [0, 0, 0]}, "'up'"),
        ({"fl_x": 50.0, "aabb_scale": -1}, "aabb_scale"),
        ({"fl_x": 50.0, "train_filenames": ["other.png"]}, "other.png"),
        ({"fl_x": 50.0, "train_filenames": 3}, "list of names"),
        ({"fl_x": 50.0, "is_fisheye": "yes"}, "is_fisheye"),
        ({"fl_x": 50.0, "white_transparent": True, "black_transparent": True}, "exclude"),
    ],
)
def test_bad_fields(tmp_path: Path, top: dict, part: str) -> None:
    write_transforms(tmp_path, frames(tmp_path, around(3)), **top)
    _fails(tmp_path, "transforms.json", part)


def test_no_focal_length(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames(tmp_path, [POSE])}))
    _fails(tmp_path, "no focal length")


def test_pictures_that_are_missing_corrupt_or_odd(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(3))
    write_transforms(tmp_path, listed)
    write_image(tmp_path / "images/001.png", (80, 60))
    _fails(tmp_path, "001.png", "80x60", "40x30")
    (tmp_path / "images/001.png").write_bytes(b"no picture")
    _fails(tmp_path, "001.png", "cannot be read")
    for k in range(3):
        (tmp_path / f"images/{k:03d}.png").unlink()
    _fails(tmp_path, "none of its 3 pictures")


def test_a_truncated_picture_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    write_transforms(tmp_path, frames(tmp_path, around(3), size=(400, 300)))
    path = tmp_path / "images/001.png"
    path.write_bytes(path.read_bytes()[:-40])
    scene = load_scene(tmp_path)
    with pytest.raises(UserError, match=r"001\.png.*cannot be read"):
        scene.images.load_flat([0, 1, 2])


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    write_transforms(tmp_path, frames(tmp_path, [POSE], mask_path="gone.png"))
    _fails(tmp_path, "gone.png", "mask")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(sorted(fields.USED_TOP - {"frames"})), _VALUES, max_size=4),
    st.dictionaries(st.sampled_from(sorted(fields.USED_FRAME)), _VALUES, max_size=3),
)
def test_any_field_may_hold_anything(tmp_path: Path, top: dict, frame: dict) -> None:
    """Whatever a field holds, the scene loads or a UserError says why; numbers that load are finite."""
    if not (tmp_path / "images").exists():
        frames(tmp_path, around(3))
    listed = [{"file_path": f"images/{k:03d}.png", "transform_matrix": pose} for k, pose in enumerate(around(3))]
    listed[1] |= frame
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 50.0, **top, "frames": listed}))
    try:
        scene = load_scene(tmp_path)
    except UserError:
        return
    assert scene.split["train"]
    assert all(camera.fx > 0.0 for camera in scene.cameras)


@settings(max_examples=100)
@given(st.text(alphabet='{}[]",:/*#\n\\ a1', max_size=40))
def test_stripping_comments_keeps_positions_and_strings(text: str) -> None:
    stripped = strip_comments(text)
    assert len(stripped) == len(text)
    assert stripped.count("\n") == text.count("\n")
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert json.loads(stripped) == value


def test_comment_signs_inside_strings_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": "http://x/*y*/#z", "b": ", ]"} // end')
    assert read_json(path) == {"a": "http://x/*y*/#z", "b": ", ]"}
