"""Compiled compositions against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from family_cases import LOWER, UPPER, check_evaluate, check_render, check_sizes, check_threads, cp_encoding, lowered, vm_encoding
from kernel_cases import grid_field, head

from fieldmorph.kernels import cpu
from fieldmorph.kernels.lowered import HybridEncoding, Lowered, VoxelEncoding


def composition(*branches: str) -> Lowered:
    parts = []
    for name in branches:
        if name == "grid":
            field = grid_field(4, seed=3)
            parts.append((field.encoding, field.density_head))
        else:
            parts.append((vm_encoding(density=8, color=24) if name == "vm" else cp_encoding(density=20, color=24), ()))
    return lowered(HybridEncoding(tuple(parts)))


@pytest.mark.parametrize("branches", [("grid", "vm"), ("cp", "grid", "grid")])
def test_composition(branches: tuple[str, ...]) -> None:
    field = composition(*branches)
    check_evaluate(field)
    check_render(field)
    check_sizes(field)


def test_same_bits_on_any_number_of_threads() -> None:
    check_threads(composition("grid", "vm"))


def test_what_is_not_covered_is_refused() -> None:
    assert "without branches" in str(cpu.supports(lowered(HybridEncoding(()))))
    wide = composition("grid", "vm")
    (grid, _), other = wide.encoding.branches
    wide = replace(wide, encoding=HybridEncoding(((grid, head(torch.Generator(), grid.layout.width, 300, 16)), other)))
    assert "wider" in str(cpu.supports(wide))
    voxels = VoxelEncoding(torch.zeros(2, 2, 2, dtype=torch.int32), torch.zeros(1), torch.zeros(1, 3), 0.0)
    field = Lowered(LOWER, UPPER, False, HybridEncoding(((voxels, ()),)), (), wide.color_head)  # type: ignore[arg-type]
    assert cpu.supports(field) is not None
