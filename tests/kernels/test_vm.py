"""Compiled planes and lines against the reference."""

from __future__ import annotations

import pytest
import torch
from family_cases import check_evaluate, check_operation, check_render, check_sizes, check_threads, lowered, unit_positions, vm_encoding

from fieldmorph.kernels import cpu, reference

FIELDS = {
    "ranks of whole vectors": lambda: lowered(vm_encoding()),
    "ranks of half vectors": lambda: lowered(vm_encoding(density=8, color=24)),
    "odd ranks": lambda: lowered(vm_encoding(density=5, color=19)),
    "resolution 2": lambda: lowered(vm_encoding(grid=(2, 2, 2), density=3, color=16)),
    "resolution 1": lambda: lowered(vm_encoding(grid=(1, 6, 2), density=16, color=7)),
    "unbounded": lambda: lowered(vm_encoding(density=16, color=20), unbounded=True),
}


@pytest.mark.parametrize("rank", [1, 8, 16, 35, 48])
@pytest.mark.parametrize("grid", [(9, 14, 11), (2, 2, 2), (1, 5, 1)])
def test_products(rank: int, grid: tuple[int, int, int]) -> None:
    encoding = vm_encoding(grid=grid, color=rank)
    check_operation(lambda ops, unit, a: ops.vm_products(unit, *a), (encoding.color_planes, encoding.color_lines))


def test_products_of_no_and_one_position() -> None:
    factors = vm_encoding().color_planes, vm_encoding().color_lines
    for count in (0, 1):
        check_operation(lambda ops, unit, a: ops.vm_products(unit, *a), factors, unit_positions()[:count])


def test_products_fall_back_where_positions_need_gradients() -> None:
    encoding = vm_encoding()
    unit = unit_positions()[:50].requires_grad_()
    found = cpu.vm_products(unit, encoding.color_planes, encoding.color_lines)
    expected = reference.vm_products(unit, encoding.color_planes, encoding.color_lines)
    assert torch.equal(torch.autograd.grad(found.sum(), unit)[0], torch.autograd.grad(expected.sum(), unit)[0])
    double = tuple(p.double() for p in encoding.color_planes), tuple(line.double() for line in encoding.color_lines)
    assert cpu.vm_products(unit.detach().double(), *double).dtype == torch.float64


@pytest.mark.parametrize("name", FIELDS)
def test_evaluate(name: str) -> None:
    check_evaluate(FIELDS[name]())


@pytest.mark.parametrize("name", FIELDS)
def test_render(name: str) -> None:
    check_render(FIELDS[name]())


def test_same_bits_on_any_number_of_threads() -> None:
    check_threads(FIELDS["ranks of half vectors"]())


def test_few_positions_and_rays() -> None:
    check_sizes(FIELDS["odd ranks"]())


@pytest.mark.parametrize("count", [1, 65_536, 150_000])
def test_mean_abs(count: int) -> None:
    values = torch.randn(count, 2, generator=torch.Generator().manual_seed(count))
    values[0, 0] = 0.0
    check_operation(lambda ops, unit, a: ops.mean_abs(a), values)
