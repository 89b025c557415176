"""Triton kernels of the hash-grid family against the reference: on a GPU where there is one, else interpreted on the CPU."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from kernel_cases import assert_close, directions, grid_field, leaves, rebuild, relative, tensors
from torch import Tensor

from fieldmorph.kernels import cuda, reference
from fieldmorph.kernels.lowered import Lowered

pytest.importorskip("triton")

FIELDS = {
    "features4": lambda: grid_field(4),
    "features2": lambda: grid_field(2, hidden=64, color=(64, 48), seed=1),
    "features1": lambda: grid_field(1, hidden=16, color=(16, 16), seed=2),
    "features8": lambda: grid_field(8, hidden=40, color=(24, 16), seed=3, levels=4),
    "unbounded": lambda: grid_field(4, unbounded=True, seed=4),
}


def positions(count: int = 70) -> Tensor:
    """Inside, outside, on faces and corners of the box, and not a number."""
    inside = torch.rand(count, 3, generator=torch.Generator().manual_seed(5)) * 2.0 - 1.0
    odd = torch.tensor([[math.nan, 0, 0], [9, 9, 9], [-9, 0, 0], [0, 0, 1e6], [-1, -0.8, -1], [1, 1.2, 0.9], [1, 0, 0]])
    return torch.cat([inside, odd])


def moved(lowered: Lowered, device: torch.device, dtype: torch.dtype) -> Lowered:
    """A copy with parameters of its own on a device."""
    return rebuild(lowered, [t.detach().to(device, dtype).clone().requires_grad_() for t in tensors(lowered)])


@pytest.mark.parametrize("name", FIELDS)
def test_grid_encode(name: str, device: torch.device, single: None) -> None:
    lowered = FIELDS[name]()
    unit = torch.cat([torch.rand(70, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3), torch.ones(1, 3), torch.zeros(1, 3)])
    unit = torch.cat([unit, torch.tensor([[-1.0, 2.0, math.nan]])])
    weight = torch.randn(len(unit), lowered.encoding.layout.width, generator=torch.Generator().manual_seed(1))
    results = []
    for module, where, dtype in ((cuda, device, torch.float32), (reference, "cpu", torch.float64)):
        table = lowered.encoding.table.to(where, dtype).clone().requires_grad_()
        out = module.grid_encode(unit.to(where, dtype), table, lowered.encoding.layout)
        results.append((out.cpu(), torch.autograd.grad((out * weight.to(where)).sum(), table)[0].cpu()))
    assert_close(results[0][0], results[1][0], 3e-6, "encoding")  # float32 positions on 21 cells
    assert relative(results[0][1], results[1][1]) < 2e-6


def both(lowered: Lowered, device: torch.device, where: Tensor) -> list[tuple[Any, list[Tensor]]]:
    """(answer, gradients) of the kernels in float32 and of the reference in float64, on the CPU."""
    view = directions(len(where))
    weights = [torch.randn(s, generator=torch.Generator().manual_seed(7)) for s in ((len(where),), (len(where), 15), (len(where), 3))]
    results: list[tuple[Any, list[Tensor]]] = []
    for module, place, dtype in ((cuda, device, torch.float32), (reference, torch.device("cpu"), torch.float64)):
        field = moved(lowered, place, dtype)
        out = module.evaluate(field, where.to(place, dtype), view.to(place, dtype))
        terms = zip(weights, (out.log_density, out.features, out.rgb), strict=True)
        loss = sum((1e-6 * w.to(place) * o).sum() for w, o in terms)
        inner = where[: len(where) - 3]  # the last three lie on faces, where float32 and float64 disagree about inside
        loss = loss + 1e-6 * module.evaluate_density(field, inner.to(place, dtype)).sum()
        gradients = [1e6 * g.cpu() for g in torch.autograd.grad(loss, tensors(field))]
        results.append((type(out)(*(t.detach().cpu() for t in out)), gradients))
    return results


@pytest.mark.parametrize(
    "name", ["features4", "unbounded", *(pytest.param(n, marks=pytest.mark.slow) for n in ("features1", "features2", "features8"))]
)
def test_evaluate(name: str, device: torch.device, single: None) -> None:
    lowered, where = FIELDS[name](), positions()
    (found, gradients), (expected, wanted) = both(lowered, device, where)
    assert torch.equal(found.gate, reference.evaluate(lowered, where, directions(len(where))).gate)  # in float32, as the faces are
    for field_name in ("log_density", "features", "rgb"):
        assert_close(getattr(found, field_name), getattr(expected, field_name), 5e-5, field_name)
    for index, (a, b) in enumerate(zip(gradients, wanted, strict=True)):
        assert relative(a, b) < 1e-3, f"gradient of tensor {index}"  # a ReLU that flips at zero moves single rows


def test_half_precision_is_close_also_for_gradients_too_small_for_it(device: torch.device) -> None:
    """Gradients of a mean over a batch are about 1e-8, less than float16 can hold: the products scale them."""
    (found, gradients), (expected, wanted) = both(FIELDS["features4"](), device, positions())
    assert cuda.precision() == "half"
    assert relative(found.rgb, expected.rgb) < 2e-3
    assert relative(found.log_density, expected.log_density) < 2e-3
    for index, (a, b) in enumerate(zip(gradients, wanted, strict=True)):
        assert relative(a, b) < 6e-2, f"gradient of tensor {index}"  # 3.8e-2: single ReLUs flip; unscaled they would be off by 1


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on GPUs where one program cannot hold the backward passes of both networks."""
    cuda.load()
    monkeypatch.setattr(importlib.import_module("fieldmorph.kernels.cuda.field"), "joined", lambda device: False)


def test_density_and_colour_apart(device: torch.device, single: None, apart: None) -> None:
    test_evaluate("features4", device, single)


@pytest.mark.parametrize("count", [0, 1, 64, 65])
def test_any_number_of_positions(count: int, device: torch.device, single: None) -> None:
    lowered = grid_field()
    where, view = positions()[:count], directions(count)
    placed = moved(lowered, device, torch.float32)
    found, expected = cuda.evaluate(placed, where.to(device), view.to(device)), reference.evaluate(lowered, where, view)
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert_close(a.cpu(), b, 5e-5, name)


def test_what_the_kernels_do_not_know_is_said_and_left_to_the_reference(device: torch.device) -> None:
    assert "3 numbers a row" in (cuda.supports(grid_field(3)) or "")
    assert "two hidden layers" in (cuda.supports(grid_field(4, color=(32,))) or "")
    assert "at most 128" in (cuda.supports(grid_field(4, hidden=256)) or "")
    lowered = grid_field(3)
    where, view = positions(), directions(len(positions()))
    assert torch.equal(cuda.evaluate(lowered, where, view).rgb.nan_to_num(), reference.evaluate(lowered, where, view).rgb.nan_to_num())
    inside = where[:5].clone().requires_grad_()
    cuda.evaluate_density(leaves(grid_field()), inside).sum().backward()
    assert inside.grad is not None and inside.grad.abs().sum() > 0


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shape", [(300, 4), (257, 3), (70,)])
def test_adam(shape: tuple[int, ...], sparse: bool, device: torch.device) -> None:
    g = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=g)
    states = [[start.to(where, dtype), torch.zeros(shape, dtype=dtype, device=where), torch.zeros(shape, dtype=dtype, device=where)]
              for where, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64))]  # fmt: skip
    for step in range(1, 4):
        grad = torch.randn(shape, generator=g) * (torch.rand(shape[0], generator=g) < 0.5).view(-1, *[1] * (len(shape) - 1))
        given = [grad.to(s[0].device, s[0].dtype).clone() for s in states]
        for module, (param, m, v), mine in zip((cuda, reference), states, given, strict=True):
            module.adam_(param, mine, m, v, step, 0.01, sparse=sparse, clear=True)
            assert not mine.any()
    for a, b in zip(*states, strict=True):
        assert_close(a.cpu(), b, 2e-6, "after three steps")


def test_the_half_precision_copy_follows_the_parameter(device: torch.device) -> None:
    cuda.load()
    from fieldmorph.kernels.cuda.shadow import current, stored

    table = torch.randn(64, 4).to(device).requires_grad_()
    copy = stored(table)
    assert copy.dtype == torch.float16
    assert stored(table) is copy
    grad, m, v = torch.ones_like(table), torch.zeros_like(table), torch.zeros_like(table)
    with torch.no_grad():
        cuda.adam_(table, grad, m, v, 1, 0.1, sparse=True)
    assert current(table) is copy, "Adam writes the copy too"
    assert torch.equal(copy, table.detach().half())
    with torch.no_grad():
        table.mul_(2.0)
    assert current(table) is None, "somebody else changed it"
    assert torch.equal(stored(table), table.detach().half())
