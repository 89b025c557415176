"""One set of checks for every family with compiled kernels: against the reference in float64, and over thread counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from kernel_cases import assert_close, directions, head, random_bits, rays, relative
from torch import Tensor

from fieldmorph.kernels import cpu, full_precision, reference
from fieldmorph.kernels.lowered import CPEncoding, Lowered, VMEncoding, VoxelEncoding
from fieldmorph.kernels.reference_encode import LINE_AXIS, PLANE_AXES

Device = torch.device | str
LOWER, UPPER = (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)


def lowered(encoding: Any, unbounded: bool = False, seed: int = 9) -> Lowered:
    """A field around ``encoding`` with a small colour network (none for voxels)."""
    color = () if isinstance(encoding, VoxelEncoding) else head(torch.Generator().manual_seed(seed), 31, 32, 32, 3, gain=0.6)
    return Lowered(LOWER, UPPER, unbounded, encoding, (), color)


def vm_encoding(grid: tuple[int, int, int] = (9, 14, 11), density: int = 16, color: int = 48, seed: int = 0) -> VMEncoding:
    g = torch.Generator().manual_seed(seed)

    def planes(rank: int) -> Any:
        return tuple(0.5 * torch.randn(grid[b], grid[a], rank, generator=g) for a, b in PLANE_AXES)

    def lines(rank: int) -> Any:
        return tuple(0.5 * torch.randn(grid[a], rank, generator=g) for a in LINE_AXIS)

    basis = torch.randn(15, 3 * color, generator=g) / math.sqrt(3 * color)
    return VMEncoding(planes(density), lines(density), planes(color), lines(color), basis, -0.5)


def cp_encoding(grid: tuple[int, int, int] = (9, 14, 11), density: int = 32, color: int = 48, seed: int = 1) -> CPEncoding:
    g = torch.Generator().manual_seed(seed)

    def lines(rank: int) -> Any:
        return tuple(0.8 * torch.randn(n, rank, generator=g) for n in grid)

    return CPEncoding(lines(density), lines(color), torch.randn(15, color, generator=g) / math.sqrt(color), -0.5)


def voxel_encoding(grid: tuple[int, int, int] = (7, 10, 9), degree: int = 3, share: float = 0.6, seed: int = 2) -> VoxelEncoding:
    g = torch.Generator().manual_seed(seed)
    kept = torch.rand(grid, generator=g) < share
    rows = int(kept.sum())
    links = torch.full(grid, -1, dtype=torch.int32)
    links[kept] = torch.randperm(rows, generator=g).to(torch.int32)
    return VoxelEncoding(links, torch.randn(rows, generator=g), torch.randn(rows, 3 * degree**2, generator=g), -4.0)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A field, encoding or tuple with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(mapped(item, change) for item in value)
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{f.name: mapped(getattr(value, f.name), change) for f in dataclasses.fields(value)})  # type: ignore[type-var]
    return value


def copy_of(field: Any, dtype: torch.dtype, device: Device = "cpu") -> tuple[Any, list[Tensor]]:
    """The field with leaves of their own, and the leaves."""
    leaves: list[Tensor] = []

    def change(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.to(device)
        leaves.append(tensor.detach().to(device, dtype).clone().requires_grad_())
        return leaves[-1]

    return mapped(field, change), leaves


def unit_positions(count: int = 200) -> Tensor:
    """Unit coordinates inside, on faces, edges and corners, outside, not a number."""
    g = torch.Generator().manual_seed(5)
    inside = torch.rand(count, 3, generator=g)
    faces = torch.where(
        torch.rand(60, 3, generator=g) < 0.5, torch.rand(60, 3, generator=g), (torch.rand(60, 3, generator=g) < 0.5).float()
    )
    odd = torch.tensor([[math.nan, 0.3, 0.2], [9, 9, 9], [-9, 0.4, 0.5], [0.5, 0.5, 1e6], [math.inf, 0.1, -math.inf]])
    return torch.cat([inside, faces, odd, torch.zeros(1, 3), torch.ones(1, 3)])


def world_positions(count: int = 200) -> Tensor:
    return unit_positions(count)[:-3].nan_to_num(0.0, 9.0, -9.0) * 2.0 - 1.0


def weighted(outputs: Any, seed: int = 7) -> Tensor:
    """One number that depends on every differentiable output, by fixed weights."""
    g = torch.Generator().manual_seed(seed)
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        weight = torch.randn(output.shape, generator=g)
        if output.requires_grad:
            total = total + (output.double() * weight).sum()
    return total


def check_operation(
    run: Callable[[Any, Tensor, Any], Tensor], arguments: Any, unit: Tensor | None = None, tested: Any = cpu, device: Device = "cpu"
) -> None:
    """A stand-alone operation ``run(implementation, unit, arguments)``: values and gradients."""
    where = unit_positions() if unit is None else unit
    found = []
    for module, dtype, place in ((tested, torch.float32, device), (reference, torch.float64, "cpu")):
        own, leaves = copy_of(arguments, dtype, place)
        out = run(module, where.to(place, dtype), own).cpu()
        found.append((out, [g.cpu() for g in torch.autograd.grad(weighted([out]), leaves)]))
    assert_close(found[0][0], found[1][0], 1e-5, "values")
    for index, (a, b) in enumerate(zip(found[0][1], found[1][1], strict=True)):
        assert a.shape == b.shape
        assert relative(a, b) < 3e-6, f"gradient {index}"


def check_evaluate(field: Lowered, where: Tensor | None = None, tested: Any = cpu, device: Device = "cpu") -> None:
    """``evaluate`` and ``evaluate_density``: values and gradients."""
    assert tested.supports(field) is None
    where = world_positions() if where is None else where
    view = directions(len(where))
    found = []
    for module, dtype, place in ((tested, torch.float32, device), (reference, torch.float64, "cpu")):
        own, leaves = copy_of(field, dtype, place)
        answer = module.evaluate(own, where.to(place, dtype), view.to(place, dtype))
        answer = type(answer)(*(part.cpu() for part in answer))
        density = module.evaluate_density(own, where.to(place, dtype)).cpu()
        gradients = [g.cpu() for g in torch.autograd.grad(weighted([*answer, density]), leaves)]
        found.append((answer, density, gradients))
    for name, a, b in zip(found[0][0]._fields, found[0][0], found[1][0], strict=True):
        assert_close(a, b, 2e-5, name)
    assert relative(found[0][1], found[1][1]) < 1e-5
    for index, (a, b) in enumerate(zip(found[0][2], found[1][2], strict=True)):
        assert relative(a, b) < 2e-5, f"gradient {index}"


def scene(count: int = 96, steps: int = 96) -> tuple[Tensor, ...]:
    """bits, origins, directions, near, far, jitter, edges: rays that hit, one that misses, one that is not a number."""
    origins, view = rays(count)
    view[0] = -view[0]
    origins[1, 2] = math.nan
    origins[2], view[2] = torch.tensor([0.25, 0.25, 3.0]), torch.tensor([0.0, 0.0, -1.0])
    near, far = reference.box_range(origins, view, LOWER, UPPER)
    jitter = torch.rand(count, generator=torch.Generator().manual_seed(11))
    return random_bits((8, 8, 8), 0.6), origins, view, near, far, jitter, torch.arange(steps + 1) * (3.5 / steps)


def check_render(field: Lowered, count: int = 96, tested: Any = cpu, device: Device = "cpu", steps: int = 96) -> None:
    """The fused renderer, with and without gradients."""
    place = scene(count, steps)
    found = []
    for module, dtype, at in ((tested, torch.float32, device), (reference, torch.float64, "cpu")):
        own, leaves = copy_of(field, dtype, at)
        out = module.render_rays(own, place[0].to(at), *(t.to(at, dtype) for t in place[1:]), 1.0)
        out = type(out)(*(part.cpu() for part in out))
        found.append((out, [g.cpu() for g in torch.autograd.grad(weighted(out[:3]), leaves)]))
    # On the face of an occupancy cell a sample's place rounds to either side: such rays, few, see one sample more or less.
    wrong = (found[0][0].rgb.double() - found[1][0].rgb).abs().amax(-1) > 1e-4
    assert int(wrong.sum()) <= 2 and int(((found[0][0].cost != found[1][0].cost) & ~wrong).sum()) <= 2
    rounded, rounded_leaves = copy_of(field, torch.float32)
    same = reference.render_rays(rounded, *place, 1.0)
    for name, a, b in zip(("rgb", "depth", "opacity"), found[0][0], same, strict=False):
        assert_close(a, b, 1e-4 if name == "depth" else 2e-5, name)
    gradients = torch.autograd.grad(weighted(same[:3]), rounded_leaves)
    for index, (a, b) in enumerate(zip(found[0][1], gradients, strict=True)):
        assert relative(a, b) < 1e-4, f"gradient {index}"
    with torch.no_grad(), full_precision():
        plain = tested.render_rays(copy_of(field, torch.float32, device)[0], *(t.to(device) for t in place), 1.0)
        plain = type(plain)(*(part.cpu() for part in plain))
    assert_close(plain.rgb, same.rgb, 6e-3, "rgb without gradients")  # faint samples lend their weight to the next one's colour
    assert_close(plain.opacity, same.opacity, 2e-5, "opacity without gradients")


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_threads(field: Lowered) -> None:
    """Pictures and gradients are the same bits for any number of threads."""
    place = scene(700)
    results = []
    for count in (1, 2, 3):
        with threads(count):
            own, leaves = copy_of(field, torch.float32)
            out = cpu.render_rays(own, *place, 1.0)
            results.append([*out[:3], *torch.autograd.grad(weighted(out[:3]), leaves)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def check_sizes(field: Lowered) -> None:
    """No position, one position, no ray, one ray."""
    for count in (0, 1):
        where, view = world_positions()[:count], directions(count + 1)[:count]
        a, b = cpu.evaluate(field, where, view), reference.evaluate(field, where, view)
        for name, x, y in zip(a._fields, a, b, strict=True):
            assert_close(x, y, 2e-5, name)
        bits, *per_ray, edges = scene()
        own, leaves = copy_of(field, torch.float32)
        out = cpu.render_rays(own, bits, *(t[3 : 3 + count] for t in per_ray), edges, 1.0)
        assert out.rgb.shape == (count, 3)
        if count:
            gradients = torch.autograd.grad(weighted(out[:3]), leaves)
            assert all(g.isfinite().all() for g in gradients)
