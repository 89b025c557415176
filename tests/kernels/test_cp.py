"""Compiled products of lines against the reference."""

from __future__ import annotations

import pytest
from family_cases import check_evaluate, check_operation, check_render, check_sizes, check_threads, cp_encoding, lowered, unit_positions

FIELDS = {
    "ranks of whole vectors": lambda: lowered(cp_encoding()),
    "odd ranks": lambda: lowered(cp_encoding(density=21, color=50)),
    "resolution 2": lambda: lowered(cp_encoding(grid=(2, 2, 2))),
    "resolution 1": lambda: lowered(cp_encoding(grid=(1, 6, 2), density=4, color=7)),
    "unbounded": lambda: lowered(cp_encoding(), unbounded=True),
}


@pytest.mark.parametrize("rank", [1, 16, 35])
@pytest.mark.parametrize("grid", [(9, 14, 11), (2, 2, 2), (1, 5, 1)])
def test_products(rank: int, grid: tuple[int, int, int]) -> None:
    check_operation(lambda ops, unit, a: ops.cp_products(unit, a), cp_encoding(grid=grid, color=rank).color_lines)


def test_products_of_no_and_one_position() -> None:
    for count in (0, 1):
        check_operation(lambda ops, unit, a: ops.cp_products(unit, a), cp_encoding().color_lines, unit_positions()[:count])


@pytest.mark.parametrize("name", FIELDS)
def test_evaluate(name: str) -> None:
    check_evaluate(FIELDS[name]())


@pytest.mark.parametrize("name", FIELDS)
def test_render(name: str) -> None:
    check_render(FIELDS[name]())


def test_same_bits_on_any_number_of_threads() -> None:
    check_threads(FIELDS["odd ranks"]())


def test_few_positions_and_rays() -> None:
    check_sizes(FIELDS["ranks of whole vectors"]())
