"""Many times at once, and one moment of a time query: compiled against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from family_cases import LOWER, UPPER, lowered, vm_encoding, world_positions
from kernel_cases import assert_close, directions, head, relative
from torch import Tensor

from fieldmorph.kernels import cpu, reference
from fieldmorph.kernels.lowered import Lowered, VMEncoding


def packed(rays: int, times: int, seed: int = 0) -> dict[str, Tensor]:
    """Rays of no, few and many samples, half of which move; some become opaque on their way."""
    g = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 12, (rays,), generator=g)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    samples = int(offsets[-1])
    moves = torch.rand(samples, generator=g) < 0.5
    index = torch.where(moves, moves.cumsum(0) - 1, -(~moves).cumsum(0))
    still, moving = int((~moves).sum()), int(moves.sum())
    return {
        "density": 6.0 * torch.rand(still, generator=g) ** 3,
        "rgb": torch.rand(still, 3, generator=g),
        "log_density": 2.5 * torch.randn(moving, times, generator=g),
        "logits": torch.randn(moving, 3, times, generator=g),
        "index": index,
        "delta": 0.05 + 0.5 * torch.rand(samples, generator=g),
        "offsets": offsets,
    }


@pytest.mark.parametrize(("rays", "times"), [(40, 7), (3, 1), (0, 5), (70, 33)])
def test_composite_times(rays: int, times: int) -> None:
    case = packed(rays, times)
    weights = torch.randn(rays, 3, times, generator=torch.Generator().manual_seed(9))
    found = []
    for ops, dtype in ((cpu, torch.float32), (reference, torch.float64)):
        here = {name: x.detach().clone().to(dtype) if x.is_floating_point() else x for name, x in case.items()}
        leaves = [here[name].requires_grad_() for name in ("log_density", "logits")]
        pixels = ops.composite_times(**here, termination=1e-3)
        ((pixels.rgb * weights.to(dtype)).sum() + pixels.opacity.square().sum()).backward()
        found.append((pixels.rgb, pixels.opacity, *(leaf.grad for leaf in leaves)))
    for a, b, what in zip(*found, ("rgb", "opacity", "d log density", "d logits"), strict=True):
        # float32 sums of at most 12 samples; a sample at the edge of termination may count on one side only, for 1e-3
        assert_close(a, b, 3e-3, what)
        assert relative(a, b) < 1e-3 or not b.numel()


def test_one_time_is_what_composite_says() -> None:
    case = packed(50, 1, seed=3)
    still = case["index"] < 0
    row = torch.where(still, -case["index"] - 1, case["index"])
    density, rgb = torch.empty(len(row)), torch.empty(len(row), 3)
    density[still], rgb[still] = case["density"][row[still]], case["rgb"][row[still]]
    density[~still], rgb[~still] = case["log_density"][row[~still], 0].exp(), torch.sigmoid(case["logits"][row[~still], :, 0])
    alone = cpu.composite(density, rgb, torch.zeros_like(density), case["delta"], case["offsets"], 1e-3)
    together = cpu.composite_times(**case, termination=1e-3)
    assert_close(together.rgb[..., 0], alone.rgb, 1e-5, "rgb")
    assert_close(together.opacity[..., 0], alone.opacity, 1e-5, "opacity")


def test_composite_times_does_not_depend_on_the_number_of_threads() -> None:
    case, answers = packed(200, 9, seed=5), []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        answers.append(cpu.composite_times(**case).rgb)
    torch.set_num_threads(before)
    assert torch.equal(*answers)


def query(unbounded: bool = False) -> Lowered:
    encoding = vm_encoding()
    assert isinstance(encoding, VMEncoding)
    g = torch.Generator().manual_seed(4)
    density = head(g, 3 * encoding.density_lines[0].shape[1], 24, 20, 1)
    return replace(lowered(encoding, unbounded), lower=LOWER, upper=UPPER, density_head=density)


@pytest.mark.parametrize("unbounded", [False, True])
def test_a_moment_of_a_time_query(unbounded: bool) -> None:
    field, x = query(unbounded), world_positions(300)
    d = directions(len(x))
    assert cpu.supports(field) is None
    a, b = cpu.evaluate(field, x, d), reference.evaluate(field, x, d)
    assert_close(a.log_density, b.log_density, 1e-3, "log density")
    assert torch.equal(a.gate, b.gate)
    assert_close(a.features, b.features, 1e-3, "features")
    assert_close(a.rgb, b.rgb, 1e-3, "rgb")
    assert_close(cpu.evaluate_density(field, x).log1p(), reference.evaluate_density(field, x).log1p(), 1e-3, "density")


def test_gradients_of_a_time_query_take_the_reference() -> None:
    field = query()
    for weight in field.density_head:
        weight.requires_grad_()
    assert "time query" in str(cpu.supports(field))
    x = world_positions(20)
    d = directions(len(x))
    cpu.evaluate(field, x, d).log_density.sum().backward()
    assert all(weight.grad is not None for weight in field.density_head)
