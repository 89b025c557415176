"""Compiled edited scenes against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from family_cases import LOWER, UPPER, lowered, scene, threads, voxel_encoding, world_positions
from kernel_cases import assert_close, directions, grid_field, random_bits, relative

from fieldmorph.kernels import cpu, reference
from fieldmorph.kernels.lowered import EMPTY, LayeredEncoding, Lowered
from fieldmorph.representations.edits import parse_edit
from fieldmorph.representations.layers import scene_layers
from fieldmorph.representations.space import Space

EDITS = (
    "move box -0.5 -0.5 -0.5 0.3 0.4 0.5 by 0.3 0.1 -0.2 rotate z 40 scale 1.3",
    "delete sphere 0.6 0.6 0.6 0.4",
    "duplicate sphere -0.4 0.2 0.1 0.5 by 0.2 -0.5 0.1 rotate x 200 scale 0.6",
    "recolour box -1 -1 -1 0.2 1 1 to #20c0ff amount 0.8",
    "keep box -0.9 -0.95 -0.9 1 1 1",
)


def edited(*fields: Lowered, commands: tuple[str, ...] = EDITS, unbounded: bool = False) -> Lowered:
    """A scene of the first field, edited; further ones are inserted. It stays in the box of the tests."""
    spaces = [Space(field.lower, field.upper, field.unbounded) for field in fields]
    edits = [parse_edit(text)[0] for text in commands]
    edits += [replace(parse_edit("insert x by 0.3 0 0.2 rotate y 70 scale 0.5")[0], field=k) for k in range(len(fields) - 1)]
    layers, _ = scene_layers(edits, spaces)
    sources = tuple((field, random_bits((6, 8, 7), 0.7, seed=k)) for k, field in enumerate(fields))
    return Lowered(LOWER, UPPER, unbounded, LayeredEncoding(sources, layers), (), ())


def voxels(unbounded: bool = False) -> Lowered:
    return lowered(voxel_encoding(degree=2), unbounded)


CASES = {
    "voxels": lambda: edited(voxels()),
    "grid and voxels": lambda: edited(replace(grid_field(), lower=LOWER, upper=UPPER), voxels()),
    "unbounded": lambda: edited(voxels(True), unbounded=True),
}


each_case = pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[pytest.mark.slow] if name == "grid and voxels" else []) for name in CASES]
)


def differing(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> int:
    """Positions whose answers differ: on the face of a region or cell rounding decides, so a few may."""
    return int(((a.double() - b).abs() > tolerance).reshape(a.shape[0], -1).any(-1).sum())


@each_case
def test_evaluate(case: str) -> None:
    field = CASES[case]()
    assert cpu.supports(field) is None
    where = torch.cat([world_positions(800), torch.full((1, 3), torch.nan)])
    view = directions(len(where))
    a, b = cpu.evaluate(field, where, view), reference.evaluate(field, where, view)
    present = int((b.gate > 0).sum())
    assert 100 < present < len(where) - 100, "some are deleted, some are there"
    assert differing(a.gate, b.gate, 0.5) <= 2
    same = (a.gate == b.gate) & ~where.isnan().any(-1)
    assert differing(a.log_density[same], b.log_density[same], 2e-4) <= 2
    seen = same & (b.gate > 0)
    assert differing(a.rgb[seen], b.rgb[seen], 1e-4) <= 2
    assert (b.log_density[b.gate == 0] == EMPTY).all()
    density = cpu.evaluate_density(field, where)
    assert relative(density[same], reference.evaluate_density(field, where)[same]) < 1e-4
    assert_close(density, a.gate * a.log_density.exp(), 1e-3 * float(density.max()), "density")


@each_case
def test_render(case: str) -> None:
    field = CASES[case]()
    place = scene(200)
    with torch.no_grad():
        found = cpu.render_rays(field, *place, 1.0)
        wanted = reference.render_rays(field, *place, 1.0)
    assert float(wanted.opacity.mean()) > 0.1
    assert differing(found.rgb, wanted.rgb, 8e-3) <= 4  # faint samples lend their weight to the next one's colour
    assert differing(found.opacity, wanted.opacity, 1e-4) <= 4
    assert differing(found.depth, wanted.depth, 1e-3) <= 4


def test_same_bits_on_any_number_of_threads() -> None:
    field, pictures = CASES["voxels"](), []
    for count in (1, 2, 3):
        with threads(count), torch.no_grad():
            pictures.append(cpu.render_rays(field, *scene(700), 1.0))
    assert all(torch.equal(pictures[0].rgb, other.rgb) for other in pictures[1:])


def test_what_is_not_covered_is_refused() -> None:
    inner = edited(voxels())
    nested = Lowered(LOWER, UPPER, False, LayeredEncoding(((inner, random_bits((2, 2, 2))),), inner.encoding.layers), (), ())
    assert "within" in str(cpu.supports(nested))
    field = grid_field()
    field.encoding.table.requires_grad_()
    trained = edited(field)
    assert "gradients" in str(cpu.supports(trained))
    density = cpu.evaluate_density(trained, world_positions())
    assert torch.autograd.grad(density.sum(), field.encoding.table)[0].abs().sum() > 0
    with torch.no_grad():
        assert cpu.supports(trained) is None
