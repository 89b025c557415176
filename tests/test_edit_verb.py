"""``fieldmorph edit`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.scripts import cli

TINY = {"levels": 2, "features": 2, "log2_table": 6, "base": 2, "finest": 8, "hidden": 8, "occupancy": 8}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.field"
    save_field(build("hashgrid", TINY, Space((-1, -1, -1), (1, 1, 1)), 0), path, precision="float16")
    return path


def run(*arguments: str | Path) -> int:
    return cli.main(["edit", *map(str, arguments), "--kernels", "reference"])


def test_edits_are_added_listed_and_taken_back(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (plain.with_name(f"{n}.field") for n in "123")
    commands = ["delete sphere 0 0 0 0.5", f"insert {plain} by 3 0 0"]
    assert run(plain, *commands, "--out", first) == 0
    assert [edit.kind for edit in read_header(first).edits] == ["delete", "insert"]
    assert any(entry.codec == "float16" for entry in read_header(first).tensors.values()), "no larger than it was"
    listed = plain.with_name("edits.json")
    listed.write_text(json.dumps([{"do": "recolour", "box": [-1, -1, -1, 1, 1, 1], "color": "#102030"}]))
    assert run(first, "--edits", listed, "keep sphere 0 0 0 3", "--out", second) == 0
    capsys.readouterr()
    assert run(second, "--json") == 0
    assert [edit["do"] for edit in json.loads(capsys.readouterr().out)] == ["delete", "insert", "recolour", "keep"]
    assert run(second, "--undo", "3", "--out", third) == 0
    assert [edit.kind for edit in read_header(third).edits] == ["delete"]
    assert not read_header(third).inserted, "what no edit inserts is not kept"
    assert run(second, "--clear", "--out", third, "--overwrite") == 0
    assert read_header(third).format == (1, 0)
    assert type(load_field(third)) is type(load_field(plain))


def test_baking_makes_voxels(plain: Path) -> None:
    out = plain.with_name("baked.field")
    assert run(plain, "delete box -1 -1 -1 0 1 1", "--bake", "--resolution", "8", "--out", out) == 0
    header = read_header(out)
    assert (header.family, header.edits) == ("voxels", ())


def test_mistakes_are_said_in_a_sentence(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = plain.with_name("out.field")
    for arguments, word in (
        (["delete sphere 0 0 0 1"], "--out"),
        (["delte sphere 0 0 0 1", "--out", out], "did you mean"),
        (["insert nowhere.field", "--out", out], "nowhere.field"),
        (["--undo", "1", "--out", out], "0 edits"),
        (["--edits", plain, "--out", out], "cannot be read"),
        (["delete sphere 0 0 0 1", "--out", plain], "--overwrite"),
    ):
        assert run(plain, *arguments) == 2
        assert word in capsys.readouterr().err
        assert not out.exists()
