"""``fieldmorph compress`` from its flags to its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fieldmorph.errors import UserError
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.registry import build
from fieldmorph.scripts import cli
from fieldmorph.scripts.compress import parse_bytes


@pytest.fixture
def path(field: Field, tmp_path: Path) -> Path:
    save_field(field, tmp_path / "plain.field", "float16")
    return tmp_path / "plain.field"


def test_target_size(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "packed.field"
    assert cli.main(["compress", str(path), "--out", str(out), "--target-size", "8KB"]) == 0
    assert 0.85 * 8000 < out.stat().st_size <= 8000
    assert out.stat().st_size < 0.5 * path.stat().st_size
    said = capsys.readouterr()
    assert "dB below the unpacked field" in said.out + said.err
    assert read_header(out).metadata["history"][-1].startswith("packed")
    assert torch.isfinite(load_field(out).density(torch.zeros(4, 3))).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["packed.field", "plain.field"]


def test_target_drop_is_smaller_for_more_loss(path: Path, tmp_path: Path) -> None:
    sizes = []
    for drop in ("0.05", "1"):
        assert cli.main(["compress", str(path), "--out", str(tmp_path / "p.field"), "--target-psnr-drop", drop, "--overwrite", "-q"]) == 0
        sizes.append((tmp_path / "p.field").stat().st_size)
    assert sizes[1] < 0.85 * sizes[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--target-size", "1MB", "--target-psnr-drop", "0.1"], "not both"),
        (["--target-size", "small"], "write a size"),
        (["--target-psnr-drop", "0"], "0.001 to 20"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes(path: Path, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compress", str(path), "--out", str(tmp_path / "p.field"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "p.field").exists()


def test_out_is_not_replaced_without_leave(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, words in ((path, "exists"), (tmp_path, "is a folder"), (tmp_path / "none" / "f.field", "does not exist")):
        assert cli.main(["compress", str(path), "--out", str(out)]) == 2
        assert words in capsys.readouterr().err


def test_out_is_not_the_field_itself(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = path.read_bytes()
    assert cli.main(["compress", str(path), "--out", str(path.parent / "." / path.name), "--overwrite"]) == 2
    assert "is the field that is to be packed" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(self: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    assert cli.main(["compress", str(path), "--out", str(path.parent / "p.field")]) == 2
    assert "cannot be written (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "options", "flags", "words"),
    [
        ("mixed", {"start": 8, "final": 8}, [], "moves, and only fields that stand still are packed"),
        ("cp", {"start": 8, "final": 8}, ["--keep", "0.2"], "is of family cp, which is packed as it is"),
    ],
)
def test_families_that_do_not_suit(
    field: Field, tmp_path: Path, family: str, options: dict[str, int], flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build(family, {**options, "occupancy": 8}, field.space, 0)
    other.metadata.update(field.metadata)
    save_field(other, tmp_path / "f.field")
    assert cli.main(["compress", str(tmp_path / "f.field"), "--out", str(tmp_path / "p.field"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "p.field").exists()


def test_a_field_without_cameras(field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del field.metadata["cameras"]
    save_field(field, tmp_path / "f.field")
    assert cli.main(["compress", str(tmp_path / "f.field"), "--out", str(tmp_path / "p.field")]) == 2
    assert "no recorded cameras" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "size"), [("0.5MB", 500_000), ("512KiB", 524_288), ("1000", 1000), ("2 kb", 2000), (".25mb", 250_000)])
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1GB?", "10", "1e9", "nan"])
def test_impossible_sizes(text: str) -> None:
    with pytest.raises(UserError, match="target-size"):
        parse_bytes(text)


def test_pruning_and_training_on_without_photographs(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.field"
    assert cli.main(["compress", str(path), "--out", str(out), "--target-size", "12KB", "--keep", "0.3", "--seconds", "4"]) == 0
    packed = load_field(out)
    mask = packed.get_buffer("encoder.mask")
    assert 0.0 < float(mask.float().mean()) <= 0.3
    assert "encoder.saliency" not in packed.state_dict(), "after the decision bits are all that is stored of it"
    assert read_header(out).tensors["encoder.mask"].codec == "lattice"
    said = capsys.readouterr()
    assert "of the saliency grid" in said.out + said.err
    assert "train rounded" in said.out + said.err


@pytest.mark.parametrize(("flags", "words"), [(["--keep", "2"], "between 0 and 1"), (["--seconds", "-1"], "give a time")])
def test_impossible_training(path: Path, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compress", str(path), "--out", str(tmp_path / "p.field"), *flags]) == 2
    assert words in capsys.readouterr().err
