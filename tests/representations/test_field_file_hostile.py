"""Every way a field file can be wrong (safetensors' list of attacks among them): one sentence, no traceback, no memory bomb."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from field_file_tools import BOX, TINY, parts, refused, tiny, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmorph.errors import UserError
from fieldmorph.representations.container import read_container, strict_json, write_container
from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.registry import build

# Reading what is no field file -----------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.field", "there is no such file")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be opened")


def test_impossible_name() -> None:
    with pytest.raises(UserError, match="not a possible file name"):
        load_field("a\0b")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "0 bytes"),
        (b"123", "3 bytes"),
        (b"\x80\x04\x95pickle....", "a Python pickle"),
        (b"PK\x03\x04" + b"\0" * 4 + b"\1" * 100, "a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 500, "a PNG picture"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "x.field"
    path.write_bytes(content)
    refused(path, "not a usable field file", what)


def test_another_programs_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x.field"
    write_container(path, {"a": torch.zeros(2)}, "other", "text")
    refused(path, "another program wrote it")


def test_truncated_anywhere(saved: Path) -> None:
    raw = saved.read_bytes()
    for length in [0, 7, 8, 9, 100, len(raw) // 2, len(raw) - 1]:
        saved.write_bytes(raw[:length])
        refused(saved)


def test_trailing_bytes(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"!")
    refused(saved, "1 bytes after its last tensor")


def test_any_flipped_bit_is_noticed(saved: Path) -> None:
    """Header flips break the header or the checksum of the description, data flips the checksum; none loads a different field."""
    raw = bytearray(saved.read_bytes())
    original = tiny().state_dict()
    generator = torch.Generator().manual_seed(0)
    positions = torch.randint(len(raw) * 8, (300,), generator=generator).tolist() + list(range(64))
    for position in positions:
        raw[position // 8] ^= 1 << position % 8
        saved.write_bytes(raw)
        try:
            state = load_field(saved).state_dict()
            assert all(torch.equal(state[k], v) for k, v in original.items())  # e.g. a space of the padding became a tab
        except UserError:
            pass
        raw[position // 8] ^= 1 << position % 8


def test_huge_header_length(saved: Path) -> None:
    raw = saved.read_bytes()
    for length in (1 << 26, 1 << 62, (1 << 64) - 1):
        saved.write_bytes(struct.pack("<Q", length) + raw[8:])
        refused(saved, "header")


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def _set(*keys: Any) -> Callable[[Any], Change]:
    """Put a value at a place of the description, or of the container where the first key is "container"."""

    def with_value(value: Any) -> Change:
        def change(header: dict[str, Any], description: dict[str, Any]) -> None:
            place: Any = header if keys[0] == "container" else description
            *path, last = keys[1:] if keys[0] == "container" else keys
            for key in path:
                place = place[key]
            if value is _GONE:
                del place[last]
            else:
                place[last] = value

        return change

    return with_value


_GONE = object()
TABLE = "encoder.table"

HOSTILE: dict[str, tuple[Change, str]] = {
    "newer major": (_set("format")([2, 0]), "version 2.0 and this program reads up to 1.x; update"),
    "format no pair": (_set("format")("1.0"), "key 'format'"),
    "format bool": (_set("format")([True, False]), "key 'format'"),
    "no family": (_set("family")(_GONE), "lacks family"),
    "unknown family": (_set("family")("gaussians"), "no field family 'gaussians'; choose one of hashgrid"),
    "family no text": (_set("family")(["hashgrid"]), "key 'family'"),
    "unknown key": (_set("payload")(1), "unknown keys payload"),
    "options no object": (_set("options")([]), "key 'options'"),
    "unknown options": (_set("options")({**TINY, "zeta": 1, "alpha": 2}), "unknown options alpha, zeta"),
    "option of text": (_set("options", "levels")("8"), "option levels must be a whole number, got '8'"),
    "option of bool": (_set("options", "levels")(True), "option levels must be a whole number"),
    "option huge": (_set("options", "levels")(10**30), "option levels"),
    "option out of range": (_set("options", "levels")(10**6), "option levels=1000000"),
    "option giant table": (_set("options", "log2_table")(24), "its options imply"),
    "option no choice": (_set("options", "encoding")("sparse"), "one of hash, dense, tiled"),
    "space no object": (_set("space")([0, 1]), "key 'space'"),
    "space inside out": (_set("space", "lower")([2.0, 2.0, 2.0]), "lower < upper"),
    "space of text": (_set("space", "lower")(["0", 0, 0]), "key 'space'"),
    "space endless": (_set("space", "upper")([1e300, 1.0, 1.0]), "key 'space'"),
    "unbounded number": (_set("space", "unbounded")(1), "key 'space.unbounded'"),
    "background number": (_set("background")(1), "key 'background'"),
    "background promised": (_set("background")(True), "lack background"),
    "edits": (_set("edits")([{"box": 1}]), "do"),
    "metadata list": (_set("metadata")([]), "key 'metadata'"),
    "metadata near": (_set("metadata")({"near": "close"}), "key 'metadata.near'"),
    "metadata cameras": (_set("metadata")({"cameras": {"a": 1}}), "key 'metadata.cameras'"),
    "metadata history": (_set("metadata")({"history": [1]}), "key 'metadata.history'"),
    "metadata steps": (_set("metadata")({"steps": 10**12}), "key 'metadata.steps'"),
    "metadata transform": (_set("metadata")({"world_transform": [[1, 2]]}), "key 'metadata.world_transform'"),
    "entry no object": (_set("tensors", TABLE)(5), f"key 'tensors.{TABLE}'"),
    "entry negative": (_set("tensors", TABLE, "shape")([-1, 2]), f"key 'tensors.{TABLE}'"),
    "entry other shape": (_set("tensors", TABLE, "shape")([7, 2]), f"{TABLE} is described as float32 [7, 2], its options imply"),
    "entry other dtype": (_set("tensors", TABLE, "dtype")("int64"), f"{TABLE} is described as int64"),
    "unknown codec": (_set("tensors", TABLE, "codec")("pickle"), f"{TABLE} has codec 'pickle'"),
    "wrong codec": (_set("tensors", TABLE, "codec")("float16"), f"{TABLE} is stored as torch.float32"),
    "described missing": (_set("tensors", TABLE)(_GONE), f"described tensors lack {TABLE}"),
    "stored unknown": (
        _set("container", "zz")({"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}),
        "stored tensors include the unknown zz",
    ),
    "dtype unknown": (_set("container", TABLE, "dtype")("F8"), f"tensor '{TABLE}' has the unknown dtype 'F8'"),
    "dtype no text": (_set("container", TABLE, "dtype")(["F32"]), "unknown dtype"),
    "shape giant": (_set("container", TABLE, "shape")([1 << 40, 1 << 40]), "needs"),
    "shape negative": (_set("container", TABLE, "shape")([-8, -8]), "no valid shape"),
    "shape float": (_set("container", TABLE, "shape")([8.0, 2]), "no valid shape"),
    "shape deep": (_set("container", TABLE, "shape")([1] * 50), "no valid shape"),
    "offsets backward": (_set("container", TABLE, "data_offsets")([512, 0]), "no valid data_offsets"),
    "offsets outside": (_set("container", TABLE, "data_offsets")([1 << 40, (1 << 40) + 768]), "overlap or leave a gap"),
    "entry key missing": (_set("container", TABLE)({"dtype": "F32"}), "is not dtype, shape and data_offsets"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_descriptions(saved: Path, case: str) -> None:
    change, sentence = HOSTILE[case]
    header, description, data = parts(saved)
    change(header, description)
    write(saved, header, description, data)
    refused(saved, sentence)
    with pytest.raises(UserError):
        read_header(saved)


def test_overlapping_tensors(saved: Path) -> None:
    """Two tensors over the same bytes: a small file that would fill much memory."""
    header, description, data = parts(saved)
    header["copy"] = dict(header[TABLE])
    write(saved, header, description, data)
    refused(saved, "overlap")


def test_metadata_that_is_no_table_of_texts(saved: Path) -> None:
    header, _, data = parts(saved)
    header["__metadata__"] = {"fieldmorph": {"a": 1}}
    write(saved, header, None, data)
    refused(saved, "__metadata__")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "too large"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ("[]", "not a JSON object"),
        ("9" * 5000, "a number of 5000 digits"),
    ],
)
def test_descriptions_that_are_no_plain_json(saved: Path, text: str, words: str) -> None:
    header, _, data = parts(saved)
    write(saved, header, text, data)
    refused(saved, words)


def test_header_that_is_no_text(saved: Path) -> None:
    write(saved, b'{"\xff\xfe": 1}', None, b"")
    refused(saved, "header")


def test_all_missing_and_unknown_tensors_at_once(saved: Path) -> None:
    header, description, data = parts(saved)
    for old, new in (("color_head.weights.0", "zz"), ("color_head.weights.2", "yy")):
        header[new], description["tensors"][new] = header.pop(old), description["tensors"].pop(old)
    write(saved, header, description, data)
    refused(saved, "described tensors lack color_head.weights.0, color_head.weights.2", "include the unknown yy, zz")


def test_a_newer_minor_version_may_add_keys(saved: Path) -> None:
    header, description, data = parts(saved)
    description["format"], description["novelty"] = [1, 7], {"x": 1}
    write(saved, header, description, data)
    assert load_field(saved).family == "hashgrid"


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    field = tiny()
    with torch.no_grad():
        field.encoder.table[3, 1] = float("inf")  # type: ignore[union-attr, index]
    save_field(field, tmp_path / "f.field")
    refused(tmp_path / "f.field", f"tensor '{TABLE}' holds NaN or infinite numbers")


def test_links_outside_their_table(tmp_path: Path) -> None:
    """A voxel file whose links point elsewhere would make a kernel read foreign memory."""
    field = build("voxels", {"start": 4, "final": 4, "occupancy": 4}, BOX)
    for bad in (64, -2, 1 << 30):
        field.links[1, 2, 3] = bad  # type: ignore[index]
        save_field(field, tmp_path / "f.field")
        refused(tmp_path / "f.field", "'links'")


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"grid": [4, 4], "rows": 1},
        {"grid": [4, 4, 4.0], "rows": 1},
        {"grid": [4, 4, 4], "rows": 65},
        {"grid": [4096] * 3, "rows": 64},
        {"x": 1},
    ],
)
def test_hostile_layouts(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "f.field"
    for family in ("voxels", "vm", "hybrid"):
        save_field(build(family, {"start": 4, "final": 4, "occupancy": 4}, BOX), path)
        header, description, data = parts(path)
        description["layout"] = layout
        write(path, header, description, data)
        refused(path, "layout")


# Fuzzing ---------------------------------------------------------------------------------------------------------


def _names(path: Path, error: UserError) -> None:
    assert str(path) in str(error)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(key=st.sampled_from(["format", "family", "options", "space", "layout", "background", "edits", "tensors", "metadata"]), value=_json)
def test_any_value_under_any_key(saved: Path, key: str, value: Any) -> None:
    """Whatever a key holds, the answer is a field or a sentence."""
    path = saved.with_name("fuzzed.field")
    header, description, data = parts(saved)
    description[key] = value
    write(path, header, description, data)
    try:
        load_field(path)
    except UserError as error:
        _names(path, error)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=st.sampled_from(["options", "space", "metadata", "tensors"]), inner=st.text(max_size=10), value=_json)
def test_any_value_one_level_down(saved: Path, name: str, inner: str, value: Any) -> None:
    path = saved.with_name("fuzzed.field")
    header, description, data = parts(saved)
    keys = sorted(description[name])
    description[name][keys[len(inner) % len(keys)] if keys and len(inner) < 8 else inner] = value
    write(path, header, description, data)
    try:
        load_field(path)
    except UserError as error:
        _names(path, error)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(header=st.binary(max_size=200) | _json.map(lambda v: json.dumps(v).encode()), data=st.binary(max_size=40))
def test_any_container(tmp_path: Path, header: bytes, data: bytes) -> None:
    path = tmp_path / "fuzzed.st"
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    with open(path, "rb") as file:
        try:
            read_container(file)
        except ValueError:
            pass


@given(value=_json)
@settings(max_examples=100)
def test_strict_json_reads_what_plain_json_writes(value: Any) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return
    assert strict_json(text, "it") == value
