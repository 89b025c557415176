"""Compiled voxels against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from family_cases import (
    check_evaluate,
    check_operation,
    check_render,
    check_sizes,
    check_threads,
    lowered,
    unit_positions,
    voxel_encoding,
    world_positions,
)
from kernel_cases import assert_close, directions

from fieldmorph.kernels import cpu, reference

FIELDS = {
    "degree 3": lambda: lowered(voxel_encoding()),
    "degree 1": lambda: lowered(voxel_encoding(degree=1)),
    "degree 2, dense": lambda: lowered(voxel_encoding(degree=2, share=1.0)),
    "degree 4, sparse": lambda: lowered(voxel_encoding(degree=4, share=0.15)),
    "resolution 2": lambda: lowered(voxel_encoding(grid=(2, 2, 2))),
    "unbounded": lambda: lowered(voxel_encoding(), unbounded=True),
}


@pytest.mark.parametrize("channels", [1, 3, 16, 27])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_interpolate(channels: int, share: float) -> None:
    encoding = voxel_encoding(share=share)
    data = torch.randn(len(encoding.density), channels, generator=torch.Generator().manual_seed(channels))
    check_operation(lambda ops, unit, a: ops.voxel_interpolate(unit, encoding.links, a, -2.0), data)
    check_operation(lambda ops, unit, a: ops.voxel_interpolate(unit, encoding.links, a, -2.0), data, unit_positions()[:1])


@pytest.mark.parametrize("name", FIELDS)
def test_evaluate(name: str) -> None:
    check_evaluate(FIELDS[name]())


@pytest.mark.parametrize("name", FIELDS)
def test_render(name: str) -> None:
    check_render(FIELDS[name]())


def test_nothing_left() -> None:
    encoding = voxel_encoding(share=0.0)
    assert len(encoding.density) == 0
    field, where = lowered(encoding), world_positions()
    found, expected = (ops.evaluate(field, where, directions(len(where))) for ops in (cpu, reference))
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert_close(a, b, 1e-6, name)
    assert not cpu.evaluate_density(field, where).any()


def test_no_density_where_all_vertices_are_pruned() -> None:
    encoding = voxel_encoding(share=0.0)
    links = encoding.links.clone()
    links[0, 0, 0] = 0
    field = lowered(replace(encoding, links=links, density=torch.ones(1), sh=torch.ones(1, 27)))
    where = torch.tensor([[0.9, 0.9, 0.9], [-0.99, -0.99, -0.99]])
    assert (cpu.evaluate_density(field, where) > 0).tolist() == [False, True]


def test_vertices_may_share_a_row() -> None:
    encoding = voxel_encoding(share=1.0)
    links = encoding.links.clone()
    links[links >= 0] %= 5
    field = lowered(replace(encoding, links=links, density=encoding.density[:5].clone(), sh=encoding.sh[:5].clone()))
    check_render(field)
    check_threads(field)


def test_links_outside_the_rows_are_refused() -> None:
    encoding = voxel_encoding()
    field = lowered(replace(encoding, density=encoding.density[:-1].clone(), sh=encoding.sh[:-1].clone()))
    assert "outside" in str(cpu.supports(field))


def test_same_bits_on_any_number_of_threads() -> None:
    check_threads(FIELDS["degree 3"]())


def test_few_positions_and_rays() -> None:
    check_sizes(FIELDS["degree 3"]())
