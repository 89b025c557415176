"""Options and the registry: what `--set key=value` and a field file may say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from fieldmorph.errors import UserError
from fieldmorph.representations.hashgrid import HashGridOptions
from fieldmorph.representations.options import options_from, options_to_json
from fieldmorph.representations.registry import build, families, get_family
from fieldmorph.representations.space import Space
from fieldmorph.representations.tensorf import VMOptions

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def test_text_is_converted() -> None:
    options = options_from(VMOptions, {"start": "64", "l1": "1e-4", "marks": "0.1,0.5", "shrink": "false", "tv_color": "none"})
    assert (options.start, options.l1, options.marks, options.shrink, options.tv_color) == (64, 1e-4, (0.1, 0.5), False, None)
    assert options_from(VMOptions, {"marks": ""}).marks == ()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"b": 1, "a": 2}, "unknown options a, b; there are"),
        ({"levels": "many"}, "option levels must be a whole number, got 'many'"),
        ({"levels": 2.5}, "option levels must be a whole number, got 2.5"),
        ({"levels": None}, "option levels must be a whole number, got None"),
        ({"levels": 0}, "option levels=0 is not possible: allowed is 1 to 32"),
        ({"encoding": "octree"}, "option encoding must be one of hash, dense, tiled, got 'octree'"),
        ({"encoding": ["hash"]}, "option encoding must be one of hash, dense, tiled"),
        ({"encoding": "dense", "finest": 2048}, "lower finest or levels"),
    ],
)
def test_refused_hash_grid_options(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        options_from(HashGridOptions, values)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [{"l1": "nan"}, {"l1": float("inf")}, {"marks": "0.5,0.1"}, {"marks": [2.0]}, {"marks": 3}, {"shrink": "maybe"}, {"shrink": 1}],
)
def test_refused_vm_options(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="option "):
        options_from(VMOptions, values)


def test_text_is_refused_where_json_is_read() -> None:
    for values in ({"start": "64"}, {"shrink": "true"}, {"marks": "0.1"}, {"tv_color": "none"}):
        with pytest.raises(UserError):
            options_from(VMOptions, values, text=False)
    assert options_from(VMOptions, {"marks": [0.1, 0.5], "tv_color": None}, text=False).marks == (0.1, 0.5)


@pytest.mark.parametrize("name", families())
def test_every_option_says_what_it_is(name: str) -> None:
    """The text under a field is its command-line help."""
    import ast
    import inspect

    documented: set[str] = set()
    for kind in get_family(name).options.__mro__[:-1]:
        (definition,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(definition, ast.ClassDef)
        for before, after in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                assert isinstance(before.target, ast.Name)
                documented.add(before.target.id)
    assert documented == {f.name for f in dataclasses.fields(get_family(name).options)}


@pytest.mark.parametrize("name", families())
def test_defaults_survive_json(name: str) -> None:
    options = get_family(name).options()
    assert options_from(type(options), options_to_json(options), text=False) == options


def test_families_name_themselves() -> None:
    assert next(iter(families())) == "hashgrid", "the default comes first"
    for name, family in families().items():
        assert family.name == family.field.family == name
        assert dataclasses.fields(family.options)
        assert family.summary


def test_unknown_family() -> None:
    with pytest.raises(UserError, match="no field family 'gaussians'; choose one of hashgrid, "):
        build("gaussians", None, BOX)


def test_build_takes_options_of_its_family_only() -> None:
    assert build("hashgrid", HashGridOptions(levels=2, log2_table=6), BOX).options.levels == 2
    with pytest.raises(TypeError, match="VMOptions"):
        build("vm", HashGridOptions(), BOX)


def test_seeds_differ() -> None:
    a, b = (build("hashgrid", {"levels": 2, "log2_table": 6}, BOX, seed) for seed in (0, 1))
    assert not torch.equal(a.state_dict()["encoder.table"], b.state_dict()["encoder.table"])
