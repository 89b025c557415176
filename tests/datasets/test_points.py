"""Sparse points: PLY files of all kinds in, points in the world of the cameras out, one sentence for what is broken."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from dataset_files import around, frames, write_transforms
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fieldmorph.datasets.points import Points, read_ply
from fieldmorph.datasets.scene import load_scene
from fieldmorph.errors import UserError

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


def ply(xyz: np.ndarray, rgb: np.ndarray | None = None, form: str = "ascii", coordinate: str = "float", before: str = "") -> bytes:
    """A PLY file; ``before`` is an element that stands before the vertices, one int each."""
    header = ["ply", f"format {form} 1.0", "comment made by a test"]
    if before:
        header += [f"element {before} 2", "property int id"]
    header += [f"element vertex {len(xyz)}", *(f"property {coordinate} {axis}" for axis in "xyz")]
    header += [f"property uchar {name}" for name in ("red", "green", "blue")] if rgb is not None else []
    header += ["element face 1", "property list uchar int vertex_indices", "end_header"]
    kinds = ("d" if coordinate == "double" else "f") * 3 + ("BBB" if rgb is not None else "")
    rows = [(*map(float, point), *(map(int, rgb[k]) if rgb is not None else ())) for k, point in enumerate(xyz)]
    if form == "ascii":
        lines = (["1", "2"] if before else []) + [" ".join(map(repr, row)) for row in rows] + ["3 0 1 2"]
        return "\n".join([*header, *lines, ""]).encode()
    order = FORMATS[form]
    body = (struct.pack(f"{order}ii", 1, 2) if before else b"") + b"".join(struct.pack(order + kinds, *row) for row in rows)
    return "\n".join([*header, ""]).encode() + body + struct.pack(f"{order}Biii", 3, 0, 1, 2)


@settings(max_examples=60, deadline=None)
@given(
    xyz=arrays.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-1e6, 1e6, width=32)),
    colored=st.booleans(),
    form=st.sampled_from(sorted(FORMATS)),
    coordinate=st.sampled_from(["float", "double"]),
    before=st.sampled_from(["", "camera"]),
    seed=st.integers(0, 99),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, xyz: np.ndarray, colored: bool, form: str, coordinate: str, before: str, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, xyz.shape).astype(np.uint8) if colored else None
    file = tmp_path_factory.mktemp("ply") / "points.ply"
    file.write_bytes(ply(xyz, rgb, form, coordinate, before))
    found = read_ply(file)
    np.testing.assert_allclose(found.xyz, xyz, rtol=1e-6, atol=1e-12)
    if rgb is None:
        assert found.rgb is None
    else:
        assert found.rgb is not None
        np.testing.assert_array_equal(found.rgb, rgb)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), form=st.sampled_from(sorted(FORMATS)))
def test_whatever_is_broken_is_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: str) -> None:
    """Bytes cut off, exchanged or put in anywhere: points, or a sentence that names the file."""
    whole = ply(np.eye(3, dtype=np.float32), np.zeros((3, 3), np.uint8), form)
    place = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "other", "more"]))
    junk = data.draw(st.binary(min_size=1, max_size=4))
    broken = whole[:place] if kind == "cut" else whole[:place] + junk + whole[place + (len(junk) if kind == "other" else 0) :]
    file = tmp_path_factory.mktemp("ply") / "points.ply"
    file.write_bytes(broken)
    found, sentence = None, ""
    try:
        found = read_ply(file)
    except UserError as error:
        sentence = str(error)
    if found is None:
        assert str(file) in sentence
        assert "\n" not in sentence
    else:
        assert np.isfinite(found.xyz).all()
        assert found.xyz.shape[1] == 3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"solid stl", "does not begin with 'ply'"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "header does not end"),
        (b"ply\nformat ascii 1.0\nend_header\n", "no element 'vertex'"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 2\n", "have no z"),
        (b"ply\nformat morse 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "format morse"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar float x\nend_header\n1 1\n", "lists"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999999999999\nproperty float x\nend_header\n", "ends before"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\nend_header\n1 2\n", "twice"),
        (ply(np.full((2, 3), np.nan)), "holds no points"),
        (ply(np.zeros((2, 3))).replace(b"0.0 0.0 0.0\n", b"0.0 zero 0.0\n"), "no number"),
    ],
)
def test_sentences(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "points.ply"
    file.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as found:
        read_ply(file)
    assert str(file) in str(found.value)


def test_colours_in_floats_are_shares_and_points_nowhere_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "points.ply"
    header = ["ply", "format ascii 1.0", "element vertex 3", *(f"property float {n}" for n in ("x", "y", "z", "red", "green", "blue"))]
    file.write_text("\n".join([*header, "end_header", "1 2 3 0 0.5 1", "nan 0 0 0 0 0", "4 5 6 2 nan -1", ""]))
    found = read_ply(file)
    assert found.xyz.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert found.rgb is not None
    assert found.rgb.tolist() == [[0, 128, 255], [255, 0, 0]]


def test_thinned_points_are_of_the_whole(tmp_path: Path) -> None:
    points = Points(np.arange(300.0).reshape(100, 3), np.arange(300).reshape(100, 3).astype(np.uint8))
    few = points.thinned(10)
    assert len(few) == 10
    assert few.rgb is not None
    assert all((few.xyz[k] == points.xyz[int(few.xyz[k, 0]) // 3]).all() for k in range(10))
    assert sorted(points.thinned(1000).xyz[:, 0].tolist()) == points.xyz[:, 0].tolist()


def test_a_scene_brings_the_points_it_names_in_the_world_of_its_cameras(tmp_path: Path) -> None:
    """A known point of the file is seen where the first camera looks at it; applied_transform is in both already."""
    listed = frames(tmp_path, around(4))
    (tmp_path / "sparse").mkdir()
    (tmp_path / "sparse/pc.ply").write_bytes(ply(np.zeros((1, 3)), form="binary_little_endian"))
    turned = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
    write_transforms(tmp_path, listed, ply_file_path="sparse\\pc.ply", applied_transform=turned)
    scene = load_scene(tmp_path)
    found = scene.points()
    assert found is not None
    assert found.xyz.tolist() == [[0.0, 0.0, 0.0]]
    np.testing.assert_allclose(scene.cameras[0].project(found.xyz)[0].numpy(), [[20.0, 15.0]], atol=1e-4)


def test_points_that_are_missing_cost_a_warning_and_bad_ones_nothing_until_they_are_wanted(tmp_path: Path) -> None:
    listed = frames(tmp_path, around(4))
    write_transforms(tmp_path, listed, ply_file_path="gone.ply")
    scene = load_scene(tmp_path)
    assert scene.points() is None
    assert any("gone.ply" in line for line in scene.warnings)
    (tmp_path / "gone.ply").write_text("nonsense")
    scene = load_scene(tmp_path)
    with pytest.raises(UserError, match=r"gone\.ply"):
        scene.points()
    write_transforms(tmp_path, listed, ply_file_path=7)
    with pytest.raises(UserError, match="'ply_file_path' must be a path"):
        load_scene(tmp_path)
    write_transforms(tmp_path, listed)
    assert load_scene(tmp_path).points() is None
