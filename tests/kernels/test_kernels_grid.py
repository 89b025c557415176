"""The hash-grid family's kernels against the reference in float64: values and gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from kernel_cases import LOWER, UPPER, assert_close, directions, grid_field, leaves, random_bits, rays, rebuild, relative, tensors
from torch import Tensor

from fieldmorph import kernels
from fieldmorph.kernels import reference

cpu = pytest.importorskip("fieldmorph.kernels.cpu")

EDGES = torch.arange(121) * (3.5 / 120)
FIELDS = {
    "features4": lambda: grid_field(4),
    "features2": lambda: grid_field(2, hidden=64, color=(64, 64), seed=1),
    "features1": lambda: grid_field(1, hidden=16, color=(16,), seed=2),
    "features3": lambda: grid_field(3, hidden=40, color=(24, 16, 8), seed=3, levels=4),
    "unbounded": lambda: grid_field(4, unbounded=True, seed=4),
}


def positions(count: int = 300) -> Tensor:
    """Inside, outside, on faces, edges and corners of the box, and not a number."""
    g = torch.Generator().manual_seed(5)
    low, high = torch.tensor(LOWER), torch.tensor(UPPER)
    inside = low + torch.rand(count, 3, generator=g) * (high - low)
    between = low + torch.rand(60, 3, generator=g) * (high - low)
    faces = torch.where(torch.rand(60, 3, generator=g) < 0.5, low, torch.where(torch.rand(60, 3, generator=g) < 0.5, high, between))
    odd = torch.tensor([[math.nan, 0, 0], [9, 9, 9], [-9, 0, 0], [0, 0, 1e6]])
    return torch.cat([inside, faces, odd])


@pytest.mark.parametrize("name", FIELDS)
def test_grid_encode(name: str) -> None:
    lowered = FIELDS[name]()
    unit = torch.cat([torch.rand(150, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3), torch.ones(1, 3), torch.zeros(1, 3)])
    unit = torch.cat([unit, torch.tensor([[-1.0, 2.0, math.nan]])])
    weight = torch.randn(len(unit), lowered.encoding.layout.width, generator=torch.Generator().manual_seed(1))
    results = []
    for module, dtype in ((cpu, torch.float32), (reference, torch.float64)):
        table = lowered.encoding.table.to(dtype).clone().requires_grad_()
        out = module.grid_encode(unit.to(dtype), table, lowered.encoding.layout)
        results.append((out, torch.autograd.grad((out * weight).sum(), table)[0]))
    assert_close(results[0][0], results[1][0], 3e-6, "encoding")  # float32 positions on 21 cells: measured 1.5e-6
    assert relative(results[0][1], results[1][1]) < 2e-6


@pytest.mark.parametrize("name", FIELDS)
def test_evaluate(name: str) -> None:
    lowered = FIELDS[name]()
    where, view = positions(), directions(364)
    weights = [torch.randn(s, generator=torch.Generator().manual_seed(7)) for s in ((364,), (364, 15), (364, 3))]
    results: list[tuple[Any, list[Tensor]]] = []
    for module, dtype in ((cpu, torch.float32), (reference, torch.float64)):
        field = leaves(lowered, dtype)
        out = module.evaluate(field, where.to(dtype), view.to(dtype))
        loss = sum((w * o).sum() for w, o in zip(weights, (out.log_density, out.features, out.rgb), strict=True))
        results.append((out, torch.autograd.grad(loss, tensors(field))))
    (found, gradients), (expected, wanted) = results
    assert torch.equal(found.gate, reference.evaluate(lowered, where, view).gate)  # in float32, as the faces are
    for field_name in ("log_density", "features", "rgb"):
        assert_close(getattr(found, field_name), getattr(expected, field_name), 5e-5, field_name)  # measured: 1.2e-5
    for index, (a, b) in enumerate(zip(gradients, wanted, strict=True)):
        assert relative(a, b) < 1e-3, f"gradient of tensor {index}"  # a ReLU that flips at zero moves single rows


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65])
def test_evaluate_any_number_of_positions(count: int) -> None:
    lowered = grid_field()
    where, view = positions()[:count], directions(count)
    found, expected = cpu.evaluate(lowered, where, view), reference.evaluate(lowered, where, view)
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert_close(a, b, 5e-5, name)
    density = cpu.evaluate_density(lowered, where)
    torch.testing.assert_close(density, reference.evaluate_density(lowered, where), rtol=1e-4, atol=1e-6)


def render_case(lowered: Any, module: Any, dtype: torch.dtype, count: int, bits: Tensor, termination: float) -> tuple[Any, list[Tensor]]:
    field = leaves(lowered, dtype)
    origins, view = rays(count)
    near, far = reference.box_range(origins, view, LOWER, UPPER)
    if lowered.unbounded:
        near, far = torch.full_like(near, 0.1), torch.full_like(far, math.inf)
    if count > 3:
        origins[1] = math.nan
        origins[2] = torch.tensor([50.0, 50.0, 50.0])
        near[2] = 3.0
        far[2] = 2.0
    jitter = torch.rand(count, generator=torch.Generator().manual_seed(8))
    arguments = [x.to(dtype) for x in (origins, view, near, far, jitter, EDGES)]
    out = module.render_rays(field, bits, *arguments, 1.3, termination)
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(o.shape, generator=g) for o in out[:3]]
    loss = sum((w * o).sum() for w, o in zip(weights, out[:3], strict=True))
    if count == 0:
        return out, []
    return out, list(torch.autograd.grad(loss, tensors(field), allow_unused=True))


@pytest.mark.parametrize("name", FIELDS)
def test_render_rays(name: str) -> None:
    """Colour, depth and opacity of rays that hit, miss, are not numbers; gradients of all three together."""
    lowered, bits = FIELDS[name](), random_bits((12, 12, 12))
    found, gradients = render_case(lowered, cpu, torch.float32, 300, bits, 1e-3)
    expected, wanted = render_case(lowered, reference, torch.float64, 300, bits, 1e-3)
    flipped = found.cost != expected.cost  # a sample on a cell's face or at the termination may fall to either side
    assert flipped.float().mean() < 0.02
    assert found.cost[1] == found.cost[2] == 0
    same = ~flipped
    for field_name, allowed in (("rgb", 1e-4), ("depth", 3e-4), ("opacity", 1e-4)):
        assert_close(getattr(found, field_name)[same], getattr(expected, field_name)[same], allowed, field_name)
    for index, (a, b) in enumerate(zip(gradients, wanted, strict=True)):
        assert relative(a, b) < 2e-2, f"gradient of tensor {index}"
    with torch.no_grad():
        inference, _ = render_no_grad(lowered, bits)
    assert_close(inference.rgb, found.rgb.detach(), 2e-3, "inference rgb")
    assert float((inference.rgb - found.rgb.detach()).square().mean()) < 1e-7  # better than 70 dB
    assert_close(inference.opacity, found.opacity.detach(), 1e-5, "inference opacity")


def render_no_grad(lowered: Any, bits: Tensor) -> tuple[Any, None]:
    origins, view = rays(300)
    near, far = reference.box_range(origins, view, LOWER, UPPER)
    if lowered.unbounded:
        near, far = torch.full_like(near, 0.1), torch.full_like(far, math.inf)
    origins[1] = math.nan
    near[2], far[2] = 3.0, 2.0
    jitter = torch.rand(300, generator=torch.Generator().manual_seed(8))
    return cpu.render_rays(lowered, bits, origins, view, near, far, jitter, EDGES, 1.3, 1e-3), None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_render_few_rays(count: int) -> None:
    lowered, bits = grid_field(), random_bits((12, 12, 12))
    found, gradients = render_case(lowered, cpu, torch.float32, count, bits, 0.0)
    expected, wanted = render_case(lowered, reference, torch.float64, count, bits, 0.0)
    assert_close(found.rgb, expected.rgb, 1e-4, "rgb")
    for a, b in zip(gradients, wanted, strict=True):
        if b is not None:
            assert relative(a, b) < 2e-2


def test_an_opaque_first_sample_hides_the_rest() -> None:
    lowered = grid_field()
    lowered.density_head[-1][0] = 30.0 * lowered.density_head[-1][0].abs()
    found, _ = render_case(lowered, cpu, torch.float32, 100, random_bits((12, 12, 12), 1.0), 1e-3)
    expected, _ = render_case(lowered, reference, torch.float64, 100, random_bits((12, 12, 12), 1.0), 1e-3)
    assert int((expected.cost == 1).sum()) > 10
    assert int((found.cost != expected.cost).sum()) <= 1
    assert_close(found.opacity, expected.opacity, 1e-4, "opacity")


def test_gradients_of_one_output_alone() -> None:
    """A loss on depth only, or opacity only, must reach the parameters (rgb's gradient is then absent, not zero)."""
    for output in ("depth", "opacity"):
        results = []
        for module in (cpu, reference):
            field = leaves(grid_field())
            origins, view = rays(80)
            near, far = reference.box_range(origins, view, LOWER, UPPER)
            out = module.render_rays(field, random_bits((12, 12, 12)), origins, view, near, far, torch.full((80,), 0.5), EDGES, 1.0, 1e-3)
            results.append(torch.autograd.grad(getattr(out, output).square().sum(), tensors(field)[:3]))
        for a, b in zip(*results, strict=True):
            assert relative(a, b) < 1e-2, output


class TestAccumulation:
    def loss(self, field: Any) -> Tensor:
        origins, view = rays(64)
        near, far = reference.box_range(origins, view, LOWER, UPPER)
        return (
            cpu.render_rays(field, random_bits((12, 12, 12)), origins, view, near, far, torch.full((64,), 0.5), EDGES, 1.0)
            .rgb.square()
            .sum()
        )

    def test_plain_autograd_semantics(self) -> None:
        field = leaves(grid_field())
        single = torch.autograd.grad(self.loss(field), tensors(field))
        assert all(t.grad is None for t in tensors(field))
        self.loss(field).backward()
        self.loss(field).backward()
        for t, g in zip(tensors(field), single, strict=True):
            torch.testing.assert_close(t.grad, 2 * g)

    def test_a_graph_kept_and_used_twice(self) -> None:
        field = leaves(grid_field())
        loss = self.loss(field)
        first = torch.autograd.grad(loss, tensors(field), retain_graph=True)
        second = torch.autograd.grad(loss, tensors(field))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def test_in_place_equals_plain(self) -> None:
        plain, fast = leaves(grid_field()), leaves(grid_field())
        (self.loss(plain) + self.loss(plain)).backward()
        with kernels.gradients_in_place():
            loss = self.loss(fast) + self.loss(fast)
        loss.backward()
        for a, b in zip(tensors(plain), tensors(fast), strict=True):
            torch.testing.assert_close(a.grad, b.grad)

    def test_a_parameter_changed_after_the_forward_pass_is_refused(self) -> None:
        field = leaves(grid_field())
        loss = self.loss(field)
        with torch.no_grad():
            field.density_head[0].mul_(2.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_frozen_tensors_get_no_gradient(self) -> None:
        field = leaves(grid_field())
        field.encoding.table.requires_grad_(False)
        self.loss(field).backward()
        assert field.encoding.table.grad is None
        assert field.density_head[0].grad is not None


def test_more_samples_than_the_first_guess_of_memory() -> None:
    """The store of live tiles grows and the pass runs again; results stay those of the reference."""
    lowered, bits = grid_field(), random_bits((12, 12, 12), 1.0)
    lowered.density_head[-1][0] = -lowered.density_head[-1][0].abs()
    found, gradients = render_case(lowered, cpu, torch.float32, 900, bits, 0.0)
    expected, wanted = render_case(lowered, reference, torch.float64, 900, bits, 0.0)
    assert int(expected.cost.sum()) > 256 * 64
    same = found.cost == expected.cost
    assert same.float().mean() > 0.95
    assert_close(found.opacity[same], expected.opacity[same], 1e-4, "opacity")
    assert relative(gradients[0], wanted[0]) < 3e-2


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("shape", [(1003, 1), (1003, 2), (1000, 4), (1001, 4), (37, 3), (101, 8), (33, 16), (64, 32), (7, 80)], ids=str)
def test_adam(sparse: bool, shape: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    start, states = torch.randn(shape, generator=g), []
    gradients = [
        torch.randn(shape, generator=g) * (torch.rand(shape[0], 1, generator=g) < 0.4) * (torch.rand(shape, generator=g) < 0.7)
        for _ in range(3)
    ]
    for module, dtype in ((cpu, torch.float32), (reference, torch.float64)):
        p, m, v = start.to(dtype).clone(), torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
        for step, gradient in enumerate(gradients, start=1):
            module.adam_(p, gradient.to(dtype), m, v, step, 0.01, (0.9, 0.99), 1e-15, sparse)
        states.append((p, m, v))
    for name, a, b in zip("pmv", *states, strict=True):
        assert_close(a, b, 1e-5, name)


def test_adam_can_clear_the_gradient() -> None:
    p, grad, m, v = (torch.ones(100, 4) for _ in range(4))
    grad[::2] = 0.0
    cpu.adam_(p, grad, m, v, 1, 0.1, sparse=True, clear=True)
    assert not grad.any()
    assert torch.equal(p[::2], torch.ones(50, 4))
    assert (p[1::2] != 1).all()


def test_what_has_no_kernel_falls_back() -> None:
    """Other precisions and gradients of positions: the reference answers, through the same call."""
    lowered = grid_field()
    where, view = positions(20)[:20].requires_grad_(), directions(20)
    density = cpu.evaluate_density(lowered, where)
    assert torch.autograd.grad(density.sum(), where)[0].abs().sum() > 0
    half = rebuild(lowered, [t.double() for t in tensors(lowered)])
    assert cpu.supports(half) is not None
    assert cpu.evaluate(half, where.detach().double(), view.double()).rgb.dtype == torch.float64
    assert cpu.supports(lowered) is None
