"""Edits: the language, what they do to a scene, and that a file keeps them without touching the field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from field_file_tools import parts, refused, write

from fieldmorph import kernels
from fieldmorph.errors import UserError
from fieldmorph.render.renderer import render_rays
from fieldmorph.render.types import Rays, RenderSettings
from fieldmorph.representations.bake import bake, even_directions
from fieldmorph.representations.edited import EditedField, with_edits
from fieldmorph.representations.edits import MOST, describe, edit_from_json, edit_to_json, parse_edit
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.representations.voxels import VoxelField

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
HERE = (-0.4, 0.0, 0.0)
"""Centre of the only ball in :func:`ball`."""


def ball(color: tuple[float, float, float] = (0.8, 0.6, 0.2), space: Space = BOX) -> VoxelField:
    """An opaque ball of radius 0.25 around HERE, of one colour, and nothing else."""
    field = build("voxels", {"start": 33, "degree": 1, "occupancy": 32}, space)
    assert isinstance(field, VoxelField)
    axes = torch.meshgrid(*[torch.linspace(0.0, 1.0, n) for n in field.grid], indexing="ij")
    positions = space.from_unit(torch.stack(axes, -1).view(-1, 3))
    distance = (positions - torch.tensor(HERE)).norm(dim=-1)
    with torch.no_grad():
        field.density_data.copy_(torch.where(distance < 0.25, 5.0, -10.0))
        field.sh_data.copy_(torch.logit(torch.tensor(color)) / 0.28209479177387814)
    field.occupancy.update(field.density, space, 0, torch.Generator().manual_seed(0), fraction=1.0)
    field.metadata = {"history": ["made by a test"], "near": 0.1}
    return field


def edited(*commands: str, field: Field | None = None, inserted: tuple[Field, ...] = ()) -> Field:
    return with_edits(field or ball(), [parse_edit(text)[0] for text in commands], inserted)


def probe(field: Field, *where: tuple[float, float, float]) -> list[bool]:
    """Whether something is at each place."""
    return (field.density(torch.tensor(where)) > 1.0).tolist()


def seen(field: Field, place: tuple[float, float, float]) -> torch.Tensor:
    """What a ray from above sees at a place's x and y: rgb and opacity."""
    rays = Rays(torch.tensor([[place[0], place[1], 3.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    with torch.no_grad():
        found = render_rays(field, rays, RenderSettings(steps=200, background="black"))
    return torch.cat([found.rgb[0], found.opacity])


@pytest.fixture(autouse=True)
def _reference() -> Any:
    """These scenes are tiny; parity of the compiled kernels has tests of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kernels.set_kernels("reference")
    yield
    kernels.set_kernels("auto")
    torch.set_num_threads(threads)


COMMANDS = (
    "delete box -1 -1 -1 0.5 1 1",
    "keep sphere 0 0.25 0 1.5",
    "recolour sphere 0 0 0 1 to 0.25 0.5 1 amount 0.5",
    "move box 0 0 0 1 1 1 by 0.5 0 -1 rotate y 30 scale 2",
    "duplicate sphere 0 0 0 1 by 0 0 1",
    "insert 3 by 1 2 3 rotate 1 1 0 45",
)


@pytest.mark.parametrize("text", COMMANDS)
def test_language_round_trip(text: str) -> None:
    edit, path = parse_edit(text)
    assert (path is not None) == text.startswith("insert")
    again = edit_from_json(json.loads(json.dumps(edit_to_json(edit))))
    assert again == edit
    if path is None:
        assert describe(edit) == text
        assert parse_edit(describe(edit))[0] == edit
    assert parse_edit("erase sphere 0 0 0 1")[0].kind == "delete"
    assert parse_edit("recolor sphere 0 0 0 1 to #ff8000")[0].color == (1.0, 128 / 255, 0.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "begins with"),
        ("destroy sphere 0 0 0 1", "there is no edit"),
        ("delete", "region"),
        ("delete sphere 0 0 0", "4 numbers"),
        ("delete sphere 0 0 0 -1", "radius"),
        ("delete sphere 0 0 nan 1", "numbers"),
        ("delete box 0 0 0 1 1 0", "empty"),
        ("delete sphere 0 0 0 1 by 1 0 0", "does not know"),
        ("move sphere 0 0 0 1 scale 0", "scale"),
        ("move sphere 0 0 0 1 rotate w 3", "rotate"),
        ("move sphere 0 0 0 1 rotate 0 0 0 90", "axis"),
        ("move sphere 0 0 0 1 by 1 0 0 by 1 0 0", "twice"),
        ("recolour sphere 0 0 0 1", "colour"),
        ("recolour sphere 0 0 0 1 to #12345", "#rrggbb"),
        ("recolour sphere 0 0 0 1 to 2 0 0", "between 0 and 1"),
        ("recolour sphere 0 0 0 1 to #ffffff amount 3", "amount"),
        ("insert", "name the field"),
    ],
)
def test_wrong_commands(text: str, word: str) -> None:
    with pytest.raises(UserError, match=word) as caught:
        parse_edit(text)
    assert "\n" not in str(caught.value)


def test_delete_and_keep() -> None:
    other = (0.5, 0.5, 0.5)
    assert probe(ball(), HERE, other) == [True, False]
    assert probe(edited("delete sphere -0.4 0 0 0.3"), HERE) == [False]
    assert probe(edited("delete box -0.4 -1 -1 1 1 1"), (-0.3, 0.0, 0.0), (-0.5, 0.0, 0.0)) == [False, True]
    assert probe(edited("keep box -1 -1 0 1 1 1"), (-0.4, 0.0, 0.1), (-0.4, 0.0, -0.1)) == [True, False]
    assert probe(edited("keep sphere 0.5 0.5 0.5 0.2"), HERE) == [False]


def test_move_takes_away_and_duplicate_does_not() -> None:
    there = (0.6, 0.0, 0.0)
    assert probe(edited("move sphere -0.4 0 0 0.4 by 1 0 0"), HERE, there) == [False, True]
    assert probe(edited("duplicate sphere -0.4 0 0 0.4 by 1 0 0"), HERE, there) == [True, True]
    # Turned about the region's middle (0, 0, 0) by a quarter, counter-clockwise: from -x to -y.
    turned = edited("move box -0.9 -0.9 -0.9 0.9 0.9 0.9 rotate z 90")
    assert probe(turned, HERE, (0.0, -0.4, 0.0), (0.0, 0.4, 0.0)) == [False, True, False]


def test_scaled_content_is_larger_and_as_opaque() -> None:
    field = edited("move sphere -0.4 0 0 0.4 scale 1.6")
    assert probe(field, (-0.4, 0.28, 0.0), (-0.4, 0.5, 0.0)) == [True, False]
    assert probe(ball(), (-0.4, 0.28, 0.0)) == [False]
    assert float(field.space.scale) == pytest.approx(2.0 / 2.04), "the box grew by what reaches out of it"
    inside = torch.tensor([HERE])
    # Opacity over the ball's diameter is kept: density per world length is smaller by the scale.
    with torch.no_grad():
        per_length = float(field.density(inside)) * field.space.scale
        assert per_length == pytest.approx(float(ball().density(inside)) / 1.6, rel=1e-4)


def test_edits_apply_to_what_the_ones_before_left() -> None:
    there = (0.6, 0.0, 0.0)
    assert probe(edited("move sphere -0.4 0 0 0.4 by 1 0 0", "delete sphere 0.6 0 0 0.4"), HERE, there) == [False, False]
    assert probe(edited("delete sphere 0.6 0 0 0.4", "move sphere -0.4 0 0 0.4 by 1 0 0"), HERE, there) == [False, True]
    back = edited("move sphere -0.4 0 0 0.4 by 1 0 0 scale 0.5", "move sphere 0.6 0 0 0.3 by -1 0 0 scale 2")
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 0.2 + torch.tensor(HERE) - 0.1
    assert torch.allclose(back.density(x) * back.space.scale, ball().density(x), rtol=1e-3)


def test_recolour_keeps_light_and_shade() -> None:
    before = seen(ball(), HERE)
    after = seen(edited("recolour sphere -0.4 0 0 0.5 to #0000ff"), HERE)
    luma = 0.2126 * before[0] + 0.7152 * before[1] + 0.0722 * before[2]
    assert torch.allclose(after, torch.tensor([0.0, 0.0, float(luma), float(before[3])]), atol=1e-4)
    assert torch.allclose(seen(edited("recolour sphere 0.9 0 0 0.1 to #0000ff"), HERE), before, atol=1e-6)
    moved = edited("recolour sphere -0.4 0 0 0.5 to #0000ff", "move sphere -0.4 0 0 0.4 by 1 0 0")
    assert torch.allclose(seen(moved, (0.6, 0.0, 0.0)), after, atol=1e-3), "the paint moves along"


def test_two_fields_in_one_scene() -> None:
    small = Space((-1.0, -0.5, -0.5), (0.2, 0.5, 0.5))
    field = edited("insert x by 1.5 0 0", inserted=(ball((0.1, 0.2, 0.9), small),))
    there = (1.1, 0.0, 0.0)
    assert probe(field, HERE, there) == [True, True]
    assert field.space.upper[0] == pytest.approx(1.7)
    assert seen(field, there)[2] > 0.8
    assert torch.allclose(seen(field, HERE), seen(ball(), HERE), atol=0.02)


def test_added_matter_adds_up() -> None:
    """Two fogs in one place: densities add, the colour is their mean."""
    field = edited("insert x", inserted=(ball((0.2, 0.6, 0.8)),))
    inside = torch.tensor([HERE])
    with torch.no_grad():
        assert float(field.density(inside)) == pytest.approx(2.0 * float(ball().density(inside)), rel=1e-4)
    rgb = field.color(field.geometry(inside).features, torch.tensor([[0.0, 0.0, 1.0]]))
    assert torch.allclose(rgb, torch.tensor([[0.5, 0.6, 0.5]]), atol=1e-4)


def test_directions_turn_with_the_content() -> None:
    field = ball()
    field.sh_data.data = torch.zeros(field.rows, 12)
    object.__setattr__(field.options, "degree", 2)
    field.sh_data.data[:, 3] = -3.0  # red depends on the direction's x (the fourth harmonic is -x)
    place = torch.tensor([HERE])

    def red(shown: Field, *view: float) -> float:
        return float(shown.color(shown.geometry(place).features, torch.tensor([view]))[0, 0].detach())

    turned = edited("move sphere -0.4 0 0 0.4 rotate z 90", field=field)
    assert red(field, 1.0, 0.0, 0.0) == pytest.approx(red(turned, 0.0, 1.0, 0.0), abs=1e-4)
    assert red(field, 1.0, 0.0, 0.0) - red(turned, 1.0, 0.0, 0.0) > 0.2


def test_occupancy_covers_what_is_there() -> None:
    field = edited("move sphere -0.4 0 0 0.4 by 0.9 0.1 0.2 rotate z 33 scale 0.7", "duplicate sphere 0.5 0.1 0.2 0.3 by -0.3 -0.9 0")
    x = field.space.from_unit(torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0)))
    there = field.density(x) > 0.5
    cell = (field.space.to_unit(x) * 32).long().clamp(0, 31)
    assert int(there.sum()) > 100
    assert bool(field.occupancy.bits[cell[:, 0], cell[:, 1], cell[:, 2]][there].all())
    assert field.occupancy.occupied_fraction < 0.1


def test_unbounded_space() -> None:
    space = Space(BOX.lower, BOX.upper, unbounded=True)
    field = edited("move sphere -0.4 0 0 0.4 by 2.5 0 0", field=ball(space=space))
    assert field.space == space
    assert probe(field, HERE, (2.1, 0.0, 0.0)) == [False, True]
    assert seen(field, (2.1, 0.0, 0.0))[3] > 0.9


def test_the_base_stays_as_it_was(tmp_path: Path) -> None:
    field, path = ball(), tmp_path / "edited.field"
    before = {name: tensor.clone() for name, tensor in field.state_dict().items()}
    scene = edited("move sphere -0.4 0 0 0.4 by 1.5 0 0 scale 2", "insert x scale 0.5", field=field, inserted=(ball(),))
    assert scene.metadata["near"] < 0.1, "near is in lengths of a larger box"
    save_field(scene, path)
    again = load_field(path)
    assert isinstance(again, EditedField)
    assert again.edits == scene.edits
    assert read_header(path).edits == scene.edits
    x = scene.space.from_unit(torch.rand(500, 3, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(again.density(x), scene.density(x))
    assert torch.equal(again.occupancy.bits, scene.occupancy.bits)
    base = with_edits(again, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert base.metadata == field.metadata
    assert again.family == "voxels"
    with pytest.raises(UserError, match="bake"):
        with_edits(ball(), [parse_edit("insert x")[0]], [scene])
    with pytest.raises(UserError, match="bake"):
        again.parameter_groups()


def test_a_field_without_edits_is_an_old_file(tmp_path: Path) -> None:
    save_field(ball(), tmp_path / "plain.field")
    _, description, _ = parts(tmp_path / "plain.field")
    assert description["format"] == [1, 0]
    assert "inserted" not in description


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"edits": [{"do": "explode"}]}, "there is no edit"),
        ({"edits": [{"do": "delete", "sphere": [0, 0, 0, 1], "box": [0, 0, 0, 1, 1, 1]}]}, "both"),
        ({"edits": [{"do": "insert", "field": 0}]}, "not in the file"),
        ({"edits": [{"do": "delete", "sphere": [0, 0, 0, 1]}] * (MOST + 1)}, "allowed are"),
        ({"edits": [{"do": "duplicate", "box": [-1, -1, -1, 1, 1, 1], "by": [0.1, 0, 0]}] * 12}, "layers"),
        ({"edits": {}}, "not a list"),
        ({"inserted": [{"family": "hashgrid"}]}, "inserted"),
    ],
)
def test_hostile_edits_are_refused(saved: Path, change: dict[str, Any], word: str) -> None:
    header, description, data = parts(saved)
    write(saved, header, {**description, "format": [1, 1], **change}, data)
    refused(saved, word)


def test_baked_voxels_show_the_edited_scene() -> None:
    field = edited("recolour sphere -0.4 0 0 0.5 to #2040ff amount 0.7", "duplicate sphere -0.4 0 0 0.4 by 0.9 0.1 0 scale 0.8")
    baked = bake(field, resolution=33, degree=1)
    assert type(baked) is VoxelField
    assert baked.rows < baked.links.numel() // 4, "only what is near matter is kept"
    g = torch.Generator().manual_seed(3)
    origins = torch.nn.functional.normalize(torch.randn(300, 3, generator=g), dim=-1) * 3.0
    targets = torch.rand(300, 3, generator=g) * 1.2 - 0.6
    rays = Rays(origins, torch.nn.functional.normalize(targets - origins, dim=-1))
    with torch.no_grad():
        a, b = (render_rays(f, rays, RenderSettings(steps=200)).rgb for f in (field, baked))
    assert -10.0 * math.log10(float((a - b).square().mean())) > 24.0  # measured: 30.0
    assert baked.metadata["history"][-1].startswith("baked")


def test_directions_are_even() -> None:
    directions = even_directions(27)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(27), atol=1e-5)
    assert float(directions.mean(0).norm()) < 0.02
