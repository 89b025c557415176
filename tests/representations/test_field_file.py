"""The field file: exact bytes, what survives, atomic writing."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from field_file_tools import BOX, TINY, tiny
from safetensors import safe_open

from fieldmorph.errors import UserError
from fieldmorph.representations.container import write_container
from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.registry import build


def test_exact_bytes(tmp_path: Path) -> None:
    path = tmp_path / "two.st"
    tensors = {"b": torch.tensor([1, 2], dtype=torch.uint8), "a": torch.tensor([[1.0, -2.0]]), "empty": torch.zeros(0, 3)}
    write_container(path, tensors, "note", "hi")
    header = (
        b'{"__metadata__":{"crc32":"15b8e268","note":"hi"},'
        b'"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        b'"empty":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]},'
        b'"b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}}'
    )
    header += b" " * (-len(header) % 8)
    data = b"\x00\x00\x80\x3f\x00\x00\x00\xc0\x01\x02"
    assert f"{zlib.crc32(b'hi' + data):08x}" == "15b8e268"
    assert path.read_bytes() == struct.pack("<Q", len(header)) + header + data


def test_same_field_same_bytes(tmp_path: Path) -> None:
    save_field(tiny(), tmp_path / "a.field")
    save_field(tiny(), tmp_path / "b.field")
    assert (tmp_path / "a.field").read_bytes() == (tmp_path / "b.field").read_bytes()


def test_safetensors_reads_it(saved: Path) -> None:
    with safe_open(saved, "pt") as file:
        assert torch.equal(file.get_tensor("encoder.table"), tiny().encoder.table)  # type: ignore[union-attr, arg-type]
        assert set(file.keys()) > {"color_head.weights.0", "occupancy.bits"}


def test_header_without_tensors(saved: Path) -> None:
    header = read_header(saved)
    assert (header.family, header.space, header.size) == ("hashgrid", BOX, saved.stat().st_size)
    assert header.parameters == sum(p.numel() for p in tiny().parameters())


def test_occupancy_values_survive_float32_only(tmp_path: Path) -> None:
    field = tiny()
    field.occupancy.update(lambda p: p.norm(dim=-1) * 3.0, BOX, 0, torch.Generator().manual_seed(0), 1.0)
    field.occupancy.restrict(torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(1)) > 0.3)
    for precision in ("float32", "float16"):
        save_field(field, tmp_path / "f.field", precision)  # type: ignore[arg-type]
        again = load_field(tmp_path / "f.field")
        assert torch.equal(again.occupancy.bits, field.occupancy.bits)
        assert torch.equal(again.occupancy.density, field.occupancy.density) == (precision == "float32")


def test_values_too_large_for_float16_stay_float32(tmp_path: Path) -> None:
    field = tiny()
    with torch.no_grad():
        field.color_head.weights[0][0, 0] = 1e6  # type: ignore[union-attr, index]
    save_field(field, tmp_path / "f.field", "float16")
    entries = read_header(tmp_path / "f.field").tensors
    assert entries["color_head.weights.0"].codec == "raw"
    assert entries["color_head.weights.1"].codec == "float16"
    again = load_field(tmp_path / "f.field")
    assert float(again.state_dict()["color_head.weights.0"][0, 0]) == 1e6


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="int4"):
        save_field(tiny(), "x", "int4")  # type: ignore[arg-type]


def test_metadata_must_be_json(tmp_path: Path) -> None:
    field = tiny()
    field.metadata["near"] = float("nan")
    with pytest.raises(ValueError, match="plain JSON"):
        save_field(field, tmp_path / "f.field")
    assert list(tmp_path.iterdir()) == []


# Writing ---------------------------------------------------------------------------------------------------------


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*cannot be written \(No such file"):
        save_field(tiny(), tmp_path / "nowhere" / "f.field")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_full_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"tiny\.field: cannot be written \(No space left on device\); free some space"):
        save_field(build("hashgrid", TINY, BOX, 2), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["tiny.field"]


def test_disk_really_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(UserError, match="cannot be written"):
        save_field(tiny(), "/dev/full/f.field")


def test_interrupt_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        save_field(tiny(), tmp_path / "f.field")
    assert list(tmp_path.iterdir()) == []
