"""The saliency gate: its definition, and the compiled grid behind it against that."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from family_cases import LOWER, UPPER, check_evaluate, check_render, check_sizes, check_threads, lowered, vm_encoding, world_positions
from kernel_cases import grid_field
from torch import Tensor

from fieldmorph.kernels import cpu, reference
from fieldmorph.kernels.lowered import Lowered
from fieldmorph.kernels.reference_saliency import CUT, saliency_at, zero_skip


def logits(side: int, seed: int = 0) -> Tensor:
    """Open to the left, shut to the right, uneven between."""
    slope = torch.linspace(4.0, -14.0, side)[:, None, None].expand(side, side, side)
    return (slope + 2.0 * torch.randn(side, side, side, generator=torch.Generator().manual_seed(seed))).contiguous()


def hollow(side: int = 6, features: float = 1.0) -> Lowered:
    field = grid_field()
    encoding = dataclasses.replace(field.encoding, table=field.encoding.table * features)  # type: ignore[type-var, union-attr]
    return dataclasses.replace(field, lower=LOWER, upper=UPPER, encoding=encoding, saliency=logits(side))


FIELDS = {
    "coarse": lambda: hollow(2),
    "medium": lambda: hollow(6),
    "fine": lambda: hollow(17),
    "gate half shut": lambda: hollow(6, 3e-5),
    "gate nearly shut": lambda: hollow(6, 1e-8),
}


def test_saliency_is_the_sigmoid_of_the_interpolated_logits() -> None:
    grid = torch.full((3, 3, 3), 1.5)
    grid[2] = -2.5
    unit = torch.tensor([[0.1, 0.4, 0.9], [0.75, 0.3, 0.3], [1.0, 1.0, 1.0]])
    found, live = saliency_at(unit, grid)
    assert torch.allclose(found, torch.sigmoid(torch.tensor([1.5, -0.5, -2.5])), atol=1e-6)
    assert live.all()


def test_a_cell_is_pruned_when_all_its_vertices_are() -> None:
    grid = torch.full((3, 3, 3), CUT - 0.1)
    grid[0, 0, 0] = CUT + 0.1
    unit = torch.tensor([[0.49, 0.49, 0.49], [0.51, 0.2, 0.2], [0.2, 0.2, 0.51]])
    found, live = saliency_at(unit, grid)
    assert live.tolist() == [True, False, False]
    assert (found > 0).tolist() == [True, False, False]


def test_zero_skipping() -> None:
    v = torch.tensor([[0.0, 0.0], [3e-5, 4e-5], [1.0, 2.0]], dtype=torch.float64)
    expected = torch.tanh(1e4 * v.norm(dim=-1)).clamp_min(1e-8).log()
    assert torch.allclose(zero_skip(v), expected, atol=1e-6)
    v.requires_grad_()
    assert torch.isfinite(torch.autograd.grad(zero_skip(v).sum(), v)[0]).all()


@pytest.mark.parametrize("name", FIELDS)
def test_evaluate(name: str) -> None:
    check_evaluate(FIELDS[name]())


@pytest.mark.parametrize("name", ["medium", "gate half shut"])
def test_render(name: str) -> None:
    check_render(FIELDS[name]())


def test_pruned_cells_hold_nothing_and_learn_nothing() -> None:
    field = hollow(6)
    where = world_positions()
    live = saliency_at(where * 0.5 + 0.5, field.saliency)[1]  # type: ignore[arg-type]
    pruned = where[~live & (where.abs() <= 1).all(-1)]
    assert len(pruned) > 20
    assert not cpu.evaluate_density(field, pruned).any()
    table = field.encoding.table.requires_grad_()  # type: ignore[union-attr]
    found = cpu.evaluate(field, pruned, torch.nn.functional.normalize(pruned + 2.0, dim=-1))
    found.log_density.sum().backward()
    assert not table.grad.any()
    assert not found.gate.any()


def test_same_bits_on_any_number_of_threads() -> None:
    check_threads(FIELDS["medium"]())


def test_few_positions_and_rays() -> None:
    check_sizes(FIELDS["medium"]())


def test_only_grids_have_a_gate() -> None:
    field = dataclasses.replace(lowered(vm_encoding()), saliency=logits(3))
    for ops in (cpu, reference):
        assert ops.supports(field)
