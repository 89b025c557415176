"""Triton kernels along rays: marching, compositing and both renderers against the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from family_cases import copy_of, weighted
from kernel_cases import LOWER, UPPER, assert_close, grid_field, random_bits, rays, relative
from torch import Tensor

from fieldmorph.kernels import cuda, reference

pytest.importorskip("triton")

COUNT = 24
"""Rays: the interpreter's time goes with the number of steps, not of rays, up to a block of them."""


def along(unbounded: bool, steps: int = 24) -> dict[str, Tensor]:
    """Rays that hit, one that misses, one that is not a number, one parallel to an axis, one whose far is before its near, one
    that begins nowhere."""
    origins, view = rays(COUNT)
    near, far = reference.box_range(origins, view, LOWER, UPPER)
    origins[1, 2], view[2] = math.nan, -view[2]
    origins[3], view[3] = torch.tensor([0.25, 0.25, 3.0]), torch.tensor([0.0, 0.0, -1.0])
    near[4], far[4] = 3.0, 2.0
    near[5] = math.inf
    edges = torch.arange(steps + 1) * (3.5 / steps)
    if unbounded:
        near, far = torch.full_like(near, 0.1), torch.full_like(far, math.inf)
        edges = torch.cat([torch.zeros(1), torch.full((steps,), 0.1).mul(1.06 ** torch.arange(steps)).cumsum(0)])
    jitter = torch.rand(COUNT, generator=torch.Generator().manual_seed(8))
    return {"origins": origins, "directions": view, "near": near, "far": far, "jitter": jitter, "edges": edges}


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("share", [0.4, 0.03])
def test_march(share: float, unbounded: bool, device: torch.device) -> None:
    """The same samples as the reference; with few occupied cells most of the way is jumped over."""
    bits, where = random_bits((14, 10, 12), share), along(unbounded)
    found = cuda.march(*(t.to(device) for t in where.values()), bits.to(device), LOWER, UPPER, unbounded)
    expected = reference.march(*where.values(), bits, LOWER, UPPER, unbounded)
    assert len(expected.t) >= 10
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert a.dtype == b.dtype
        assert_close(a.cpu(), b, 2e-6, name)


def test_march_without_rays_or_cells(device: torch.device) -> None:
    where = along(False)
    nothing = cuda.march(
        *(t.to(device) for t in where.values()), torch.zeros(8, 8, 8, dtype=torch.bool, device=device), LOWER, UPPER, False
    )
    assert len(nothing.t) == 0 and nothing.offsets.tolist() == [0] * (COUNT + 1)
    none = {k: v if k == "edges" else v[:0] for k, v in where.items()}
    assert len(cuda.march(*(t.to(device) for t in none.values()), random_bits((4, 4, 4)).to(device), LOWER, UPPER, False).rays) == 0


def test_the_skip_grid_counts_cells_to_matter(device: torch.device) -> None:
    cuda.load()
    from fieldmorph.kernels.cuda.lattice import FARTHEST, skip_of

    bits = torch.zeros(20, 20, 20, dtype=torch.bool, device=device)
    bits[3, 4, 5] = True
    skip = skip_of(bits)
    at = torch.stack(torch.meshgrid(*[torch.arange(20)] * 3, indexing="ij"), -1)
    assert torch.equal(skip.cpu().long(), (at - torch.tensor([3, 4, 5])).abs().amax(-1).clamp(max=FARTHEST))
    assert skip_of(bits) is skip
    bits[0, 0, 0] = True
    assert int(skip_of(bits)[0, 0, 1]) == 1, "the bits have changed"


@pytest.mark.parametrize("termination", [1e-4, 0.3, 0.0])
def test_composite(termination: float, device: torch.device) -> None:
    g = torch.Generator().manual_seed(3)
    counts = torch.tensor([0, 5, 1, 17, 0, 9, 3] * 6)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    total = int(offsets[-1])
    density = 6.0 * torch.rand(total, generator=g) ** 2
    density[::11], density[7], density[30] = 0.0, 1e5, 1e-6
    colors, t, delta = torch.rand(total, 3, generator=g), torch.rand(total, generator=g).cumsum(0), torch.rand(total, generator=g)
    results = []
    for module, place, dtype in ((cuda, device, torch.float32), (reference, torch.device("cpu"), torch.float64)):
        inputs = [x.to(place, dtype).clone().requires_grad_() for x in (density, colors)]
        out = module.composite(*inputs, t.to(place, dtype), delta.to(place, dtype), offsets.to(place), termination)
        out = [x.cpu() for x in out]
        results.append((out, [x.cpu() for x in torch.autograd.grad(weighted(out), inputs)]))
    for name, a, b in zip(("rgb", "depth", "opacity", "weights"), results[0][0], results[1][0], strict=True):
        assert_close(a, b, 2e-4 if name == "depth" else 2e-6, name)
    for name, a, b in zip(("density", "rgb"), results[0][1], results[1][1], strict=True):
        assert relative(a, b) < 2e-5, name


def render(module: Any, field: Any, place: torch.device, dtype: torch.dtype, bits: Tensor, **more: Any) -> Any:
    where = along(field.unbounded, 10)
    return module.render_rays(field, bits.to(place), *(t.to(place, dtype) for t in where.values()), 1.3, 1e-3, **more)


@pytest.mark.parametrize("unbounded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_render_rays(unbounded: bool, device: torch.device, single: None) -> None:
    """Colour, depth, opacity, cost and the gradients of a training step; the single launch shows the same."""
    lowered, bits = grid_field(4, unbounded=unbounded, seed=6), random_bits((12, 12, 12))
    results = []
    for module, place in ((cuda, device), (reference, torch.device("cpu"))):
        field, leaves = copy_of(lowered, torch.float32, place)
        out = render(module, field, place, torch.float32, bits)
        out = type(out)(*(x.cpu() for x in out))
        results.append((out, [x.cpu() for x in torch.autograd.grad(weighted(out[:3]), leaves)]))
    (found, gradients), (expected, wanted) = results
    assert torch.equal(found.cost, expected.cost)
    for name, allowed in (("rgb", 2e-5), ("depth", 1e-4), ("opacity", 2e-5)):
        assert_close(getattr(found, name), getattr(expected, name), allowed, name)
    for index, (a, b) in enumerate(zip(gradients, wanted, strict=True)):
        assert relative(a, b) < 1e-4, f"gradient {index}"
    with torch.no_grad():
        plain = render(cuda, copy_of(lowered, torch.float32, device)[0], device, torch.float32, bits)
    assert torch.equal(plain.cost.cpu(), expected.cost)
    for name, allowed in (("rgb", 2e-5), ("depth", 1e-4), ("opacity", 2e-5)):
        assert_close(getattr(plain, name).cpu(), getattr(expected, name), allowed, f"in one launch, {name}")


def test_half_precision_shows_the_same_picture(device: torch.device) -> None:
    """At least 50 dB against the reference, both ways of rendering."""
    lowered, bits = grid_field(4, seed=6), random_bits((12, 12, 12))
    expected = render(reference, lowered, torch.device("cpu"), torch.float32, bits)
    field, leaves = copy_of(lowered, torch.float32, device)
    learning = render(cuda, field, device, torch.float32, bits)
    with torch.no_grad():
        plain = render(cuda, field, device, torch.float32, bits)
    for name, out in (("with gradients", learning), ("in one launch", plain)):
        mse = float((out.rgb.detach().cpu() - expected.rgb).square().mean())
        assert mse < 1e-5, f"{name}: {-10 * math.log10(mse):.1f} dB"
    assert all(g.isfinite().all() for g in torch.autograd.grad(1e-6 * learning.rgb.sum(), leaves))


def test_room_for_few_samples_leaves_the_last_rays_out(device: torch.device, single: None) -> None:
    """With a capacity nothing is asked of the device; what fits is as without, pixels and gradients."""
    lowered, bits = grid_field(4, seed=6), random_bits((12, 12, 12))
    results = []
    for capacity in (None, 400, 12):
        field, leaves = copy_of(lowered, torch.float32, device)
        out = render(cuda, field, device, torch.float32, bits, capacity=capacity)
        results.append([*out[:3], *torch.autograd.grad(out.rgb[:5].sum(), leaves)])
    for a, b in zip(results[0], results[1], strict=True):
        assert_close(b.cpu(), a.cpu(), 1e-5, "ample room")
    assert_close(results[2][0][:2].cpu(), results[0][0][:2].cpu(), 1e-6, "the first rays")
    assert not results[2][0][-5:].any(), "no room for the last rays"
    assert all(t.isfinite().all() for t in results[2])
