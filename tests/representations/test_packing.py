"""Packed tensors: exact inverses, only what live cells reach, and no damage that passes or crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_file_tools import BOX, parts, refused, tiny, write

from fieldmorph.errors import UserError
from fieldmorph.kernels.reference_encode import grid_rows
from fieldmorph.representations.codecs import deflate_text, inflate_text
from fieldmorph.representations.entropy import Reader, Writer, power_of_two
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.hashgrid import HashGridField
from fieldmorph.representations.packing import (
    CodedPart,
    Part,
    columns,
    contexts,
    decode,
    decode_bits,
    default_parts,
    encode,
    encode_bits,
    reached,
)
from fieldmorph.representations.registry import build


def symbols(rows: int, width: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).laplace(size=(rows, width)) * spread).astype(np.int32)


def quantised(field: Field) -> dict[str, list[CodedPart]]:
    """Every large tensor with coarse, plausible numbers; unreached rows zero."""
    out = {}
    cuts = field.packing()
    for index, (name, parameter) in enumerate(field.named_parameters()):
        if parameter.numel() < 64:
            continue
        out[name] = []
        for part in cuts.get(name) or default_parts(parameter.shape):
            numbers = np.zeros((part.end - part.begin, columns(parameter.shape)), np.int32)
            numbers[part.rows] = symbols(len(part.rows), numbers.shape[1], index, 1.0)
            out[name].append(CodedPart(numbers, np.full(numbers.shape[1], -24 - index, np.int16)))
    return out


def some_cells(field: Field, share: float = 0.2) -> None:
    """An occupied ball, so that some rows are out of reach."""
    n = field.occupancy.resolution
    axis = torch.linspace(-1, 1, n)
    ball = sum(a.square() for a in torch.meshgrid(axis, axis, axis, indexing="ij")) < share
    field.occupancy.restrict(ball)


# Numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (1, 300), (300, 1), (40, 24), (9, 13, 6), (1,), (0, 5)])
def test_default_parts_round_trip(shape: tuple[int, ...]) -> None:
    width = columns(shape)
    rows = int(np.prod(shape)) // max(width, 1)
    coded = [CodedPart(symbols(rows, width), np.arange(width, dtype=np.int16) - 30) for _ in default_parts(shape)]
    expected = coded[0].values(default_parts(shape)[0]).reshape(shape)
    assert np.array_equal(decode(encode(default_parts(shape), coded), default_parts(shape), shape).numpy(), expected)


def test_mixed_parts_round_trip() -> None:
    """Slabs with holes, a hashed run with dead rows, and one of single bits."""
    live = np.random.default_rng(1).random(50) < 0.4
    cells = np.sort(np.random.default_rng(2).choice(5 * 12, 30, replace=False))
    cuts = [Part(0, 30, 5, 12, cells), Part(30, 80, live=live, by_feature=True), Part(80, 100, by_feature=True)]
    numbers = symbols(100, 4)
    numbers[30:80][~live] = 0
    coded = [
        CodedPart(numbers[:30], np.array([-16], np.int16)),
        CodedPart(numbers[30:80], np.array([-9, 0, 9, 18], np.int16)),
        CodedPart((numbers[80:] > 0).astype(np.int32), np.array([4], np.int16), True),
    ]
    again = decode(encode(cuts, coded), cuts, (100, 4)).numpy()
    for part, entry in zip(cuts, coded, strict=True):
        assert np.array_equal(again[part.begin : part.end], entry.values(part))
    assert not again[30:80][~live].any()
    assert set(np.abs(again[80:]).ravel()) == {np.float32(power_of_two(4))}


def test_neighbours_are_worth_bytes() -> None:
    """A smooth plane: loud where its neighbours are loud."""
    y, x = np.meshgrid(np.linspace(0, 6, 60), np.linspace(0, 6, 60), indexing="ij")
    loud = np.exp(-((y - 3) ** 2) - (x - 3) ** 2)[..., None] * 12.0
    plane = np.rint(np.random.default_rng(0).laplace(size=(60, 60, 8)) * loud).astype(np.int32).reshape(-1, 8)
    shuffled = plane.reshape(-1)[np.random.default_rng(1).permutation(plane.size)].reshape(plane.shape)
    sizes = [len(encode(default_parts((60, 60, 8)), [CodedPart(s, np.zeros(1, np.int16))])) for s in (plane, shuffled)]
    assert sizes[0] < 0.85 * sizes[1]


def test_size_is_near_the_entropy() -> None:
    numbers = symbols(20000, 4)
    _, counts = np.unique(numbers, return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert len(encode([Part(0, 20000, by_feature=True)], [CodedPart(numbers, np.zeros(1, np.int16))])) < 1.02 * entropy + 200


def test_contexts_are_those_of_the_coder() -> None:
    part = Part(0, 6, 3, 2)
    numbers = np.array([[0], [3], [1], [0], [0], [0]], np.int32)
    # Row 2 sees row 0 above it and row 1 beside that; row 5 sees row 3 above, row 2 beside that, row 1 two above.
    near = [0, 0, 2 * 0 + 3, 2 * 3 + 0, 2 * 1 + 0 + 0, 2 * 0 + 1 + 3]
    found = contexts(part, numbers, 12).ravel()
    assert found.tolist() == [{0: 0, 2: 2, 3: 3, 4: 4, 6: 5}[n] for n in near]


# What is stored at all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intervals", [(1, 1, 1), (3, 5, 2), (8, 8, 8), (20, 13, 31), (0, 4, 0)])
def test_reached_vertices(intervals: tuple[int, int, int]) -> None:
    """Exactly the corners of lattice cells that overlap an occupied cell, here found by looking at many points."""
    bits = np.random.default_rng(0).random((8, 8, 8)) < 0.05
    found = reached(bits, *intervals)
    assert found.shape == tuple(n + 1 for n in intervals)
    inside = np.argwhere(bits)
    points = np.concatenate([(inside + offset) / 8 for offset in np.random.default_rng(1).uniform(1e-6, 1 - 1e-6, (400, 3))])
    seen = np.zeros_like(found)
    for corner in np.ndindex(2, 2, 2):
        index = [
            np.minimum(np.minimum(np.floor(points[:, a] * n).astype(int), max(n - 1, 0)) + corner[a], n) for a, n in enumerate(intervals)
        ]
        seen[tuple(index)] = True
    assert not (seen & ~found).any()
    assert (found & ~seen).sum() <= 0.02 * found.size


def test_unreached_rows_of_a_table_cost_nothing_and_change_nothing(tmp_path: Path) -> None:
    field = build("hashgrid", {"levels": 3, "features": 2, "log2_table": 9, "base": 4, "finest": 40, "hidden": 8, "occupancy": 16}, BOX, 1)
    assert isinstance(field, HashGridField)
    some_cells(field)
    layout = field.encoder.grid  # type: ignore[attr-defined]
    for level, part in enumerate(field.packing()["encoder.table"]):
        assert part.live is not None
        points = torch.rand(20000, 3, generator=torch.Generator().manual_seed(level))
        cells = (points * 16).long()
        points = points[field.occupancy.bits[cells[:, 0], cells[:, 1], cells[:, 2]]]
        corner = (points * layout.resolutions[level]).long().clamp(max=layout.resolutions[level] - 1)
        for step in np.ndindex(2, 2, 2):
            rows = grid_rows(corner + torch.tensor(step), layout.resolutions[level], layout.kinds[level], part.end - part.begin)
            assert part.live[rows.numpy()].all()
    assert not field.packing()["encoder.table"][0].live.all()  # type: ignore[union-attr]
    save_field(field, tmp_path / "f.field", "float16", quantised(field))
    table = load_field(tmp_path / "f.field").state_dict()["encoder.table"]
    part = field.packing()["encoder.table"][0]
    assert part.live is not None
    assert not table[part.begin : part.end][~torch.from_numpy(part.live)].any()


# Bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 7), (5, 9, 3), (16, 16, 16), (33, 20, 17)])
def test_bits_round_trip(shape: tuple[int, int, int]) -> None:
    for share in (0.0, 0.1, 1.0):
        bits = np.random.default_rng(3).random(shape) < share
        assert np.array_equal(decode_bits(encode_bits(bits), shape), bits)
        assert np.array_equal(decode_bits(encode_bits(bits, ~bits), shape, ~bits), bits)


def test_a_surface_is_cheap_and_a_hint_cheaper() -> None:
    axis = np.linspace(-1, 1, 64)
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    shell = np.abs(radius - 0.6) < 0.04
    alone = len(encode_bits(shell))
    assert alone < 0.1 * shell.size / 8
    assert len(encode_bits(shell, shell)) < 0.1 * alone + 200


# Files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    field = tiny()
    some_cells(field, 1.0)
    field.metadata["cameras"] = [{"name": f"camera {i}", "pose": [0.5] * 12} for i in range(40)]
    save_field(field, tmp_path / "packed.field", "float16", quantised(field))
    return tmp_path / "packed.field"


def test_packed_text_is_short_and_read_back(packed: Path) -> None:
    header = read_header(packed)
    assert len(header.metadata["cameras"]) == 40
    assert header.tensors["encoder.table"].codec == "packed"
    assert header.parameters == sum(p.numel() for p in tiny().parameters())
    assert packed.stat().st_size < 4000


def test_truncated_packed_files(packed: Path) -> None:
    raw = packed.read_bytes()
    for length in range(0, len(raw), 37):
        packed.write_bytes(raw[:length])
        refused(packed)


def test_flipped_bits_are_noticed(packed: Path) -> None:
    raw = bytearray(packed.read_bytes())
    original = load_field(packed).state_dict()
    for position in torch.randint(len(raw) * 8, (200,), generator=torch.Generator().manual_seed(0)).tolist():
        raw[position // 8] ^= 1 << position % 8
        packed.write_bytes(raw)
        try:
            state = load_field(packed).state_dict()
            assert all(torch.equal(state[k], v) for k, v in original.items())
        except UserError:
            pass
        raw[position // 8] ^= 1 << position % 8


def test_damage_behind_a_right_checksum(packed: Path) -> None:
    """The decoder itself survives anything: a wrong field or one sentence, never a crash, a hang or a flood of memory."""
    header, _, data = damaged(packed)
    text = header["__metadata__"]["fieldmorph"]
    generator = np.random.default_rng(0)
    sentences = []
    for _ in range(150):
        changed = bytearray(data)
        for position in generator.integers(len(data), size=3):
            changed[position] = generator.integers(256)
        write(packed, json.loads(json.dumps(header)), text, bytes(changed))
        try:
            load_field(packed)
        except UserError as error:
            sentences.append(str(error))
    assert len(sentences) > 30
    assert all(str(packed) in sentence and "\n" not in sentence for sentence in sentences)


def damaged(path: Path) -> tuple[dict[str, Any], Any, bytes]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), None, raw[8 + length :]


def test_a_file_must_not_unfold_without_end(tmp_path: Path) -> None:
    """A few bytes that claim a table of half a gigabyte."""
    path = tmp_path / "bomb.field"
    field = tiny()
    save_field(field, path, "float16", quantised(field))
    header, _, data = damaged(path)
    description = json.loads(inflate_text(header["__metadata__"]["fieldmorph"]))
    description["options"].update(levels=1, log2_table=24, base=4096, finest=4096, features=8)
    for name, shape in (("encoder.table", [1 << 24, 8]), ("encoder.head.weights.0", [8, 8])):
        description["tensors"][name]["shape"] = shape
        if name != "encoder.table" and description["tensors"][name]["codec"] != "packed":
            entry = header[name]
            data = data[: entry["data_offsets"][0]] + bytes(128) + data[entry["data_offsets"][1] :]
    write(path, header, description, data)
    refused(path)


def test_codecs_must_suit(packed: Path) -> None:
    header, _, data = damaged(packed)
    description = json.loads(inflate_text(header["__metadata__"]["fieldmorph"]))
    for name, codec in (("occupancy.bits", "packed"), ("encoder.table", "lattice"), ("encoder.table", "links")):
        changed = json.loads(json.dumps(description))
        changed["tensors"][name]["codec"] = codec
        write(packed, json.loads(json.dumps(header)), changed, data)
        refused(packed, name, "does not suit")


def test_deflated_text() -> None:
    text = '{"a": "é"}' * 50
    assert inflate_text(deflate_text(text)) == text and inflate_text(text) == text
    for wrong in ("zlib:", "zlib:!!", deflate_text(text)[:-9], "zlib:é"):
        with pytest.raises(ValueError, match="description is damaged"):
            inflate_text(wrong)


def test_reader_refuses_what_is_left_over() -> None:
    writer = Writer()
    writer.tables(np.array([[3, 5]]))
    writer(np.zeros(8, np.int32), np.array([0, 1, 1, 0, 1, 1, 0, 1], np.int32))
    blob = writer.finish()
    reader = Reader(blob)
    reader.tables(1, 2)
    assert reader(np.zeros(8, np.int32), np.zeros(8, np.int32)).tolist() == [0, 1, 1, 0, 1, 1, 0, 1]
    reader.finish()
    for wrong in (blob[:3], blob[:-1], blob[:6], b"\xff" * 12, blob + bytes(8)):
        with pytest.raises(ValueError):  # noqa: PT012
            reader = Reader(wrong)
            reader.tables(1, 2)
            reader(np.zeros(8, np.int32), np.zeros(8, np.int32))
            reader.finish()


def test_parts_helper_reads_plain_files(saved: Path) -> None:
    assert parts(saved)[1]["tensors"]["encoder.table"]["codec"] == "raw"
