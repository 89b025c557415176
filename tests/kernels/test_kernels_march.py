"""Every implementation must find exactly the samples docs/architecture.md defines."""

from __future__ import annotations

import math

import pytest
import torch
from kernel_cases import LOWER, UPPER, assert_close, random_bits, rays
from torch import Tensor

from fieldmorph.kernels import reference

cpu = pytest.importorskip("fieldmorph.kernels.cpu")


def uniform_edges(steps: int = 150) -> Tensor:
    return torch.arange(steps + 1) * (3.5 / steps)


def growing_edges() -> Tensor:
    return torch.cat([torch.zeros(1), torch.cumsum(0.02 * 1.03 ** torch.arange(160.0), 0)])


def adversarial() -> tuple[Tensor, Tensor]:
    """Zero components, faces, edges and corners, inside starts, misses, NaN, infinities."""
    nan, inf = math.nan, math.inf
    cases = [
        ((-2, 0, 0), (1, 0, 0)),
        ((0, 0, 3), (0, 0, -1)),
        ((1, 0.1, 3), (0, 0, -1)),
        ((1, 1.2, 3), (0, 0, -1)),
        ((-1, -0.8, -1), (1, 1, 1)),
        ((0, 0, 0), (0, 1, 0)),
        ((0.1, 0.1, 0.1), (0.3, -0.2, 1)),
        ((0, 5, 5), (1, 0, 0)),
        ((3, 0, 0), (1, 0, 0)),
        ((nan, 0, 0), (1, 0, 0)),
        ((0, 0, 3), (0, nan, -1)),
        ((inf, 0, 0), (-1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
    ]
    origins, directions = (torch.tensor([c[i] for c in cases], dtype=torch.float32) for i in (0, 1))
    length = directions.norm(dim=-1, keepdim=True)
    return origins, torch.where(length > 0, directions / length, directions)


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("edges", [uniform_edges(), growing_edges()], ids=["uniform", "growing"])
@pytest.mark.parametrize("shape", [(13, 13, 13), (8, 20, 5), (1, 1, 1)], ids=str)
def test_the_sample_set_is_the_references(unbounded: bool, edges: Tensor, shape: tuple[int, int, int]) -> None:
    """Bit for bit: the skipping of empty space must never lose, add or move a sample."""
    bits = random_bits(shape, 0.05 if shape[0] > 1 else 1.0)
    origins, directions = (torch.cat(pair) for pair in zip(rays(200), adversarial(), strict=True))
    near, far = reference.box_range(origins, directions, LOWER, UPPER)
    if unbounded:
        near, far = torch.full_like(near, 0.05), torch.full_like(far, math.inf)
    jitter = torch.rand(len(near), generator=torch.Generator().manual_seed(0))
    arguments = (origins, directions, near, far, jitter, edges, bits, LOWER, UPPER, unbounded)
    found, expected = cpu.march(*arguments), reference.march(*arguments)
    assert len(expected.t) > 20
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("shape", [(17, 30, 5), (1, 1, 1), (2, 9, 40)], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.002, 0.3])
def test_the_skip_grid_holds_distances(shape: tuple[int, int, int], share: float) -> None:
    from fieldmorph.kernels.cpu.marching import skip_of

    bits = random_bits(shape, share)
    found, block = skip_of(bits)
    expected, grown = torch.full(shape, 254), bits.float()[None, None]
    for distance in range(max(shape)):
        expected[grown[0, 0].bool() & (expected == 254)] = distance
        grown = torch.nn.functional.max_pool3d(grown, 3, 1, 1)
    assert torch.equal(torch.from_numpy(found).long(), expected)
    if bits.any():
        cells = bits.nonzero()
        assert block.tolist() == [*cells.amin(0).tolist(), *(cells.amax(0) + 1).tolist()]
    else:
        assert (block[3:] <= block[:3]).all()


def test_rays_along_the_axes_and_fine_lattices() -> None:
    """The stretch of a ray that holds occupied cells must leave out no sample, however short the intervals are."""
    bits = torch.zeros(16, 16, 16, dtype=torch.bool)
    bits[5:7, 8, 3:12] = True
    origins, directions = (torch.cat(pair) for pair in zip(rays(60), adversarial(), strict=True))
    near, far = reference.box_range(origins, directions, LOWER, UPPER)
    edges = torch.arange(20001) * (3.5 / 20000)
    jitter = torch.rand(len(near), generator=torch.Generator().manual_seed(0))
    arguments = (origins, directions, near, far, jitter, edges, bits, LOWER, UPPER, False)
    found, expected = cpu.march(*arguments), reference.march(*arguments)
    assert torch.equal(found.offsets, expected.offsets) and torch.equal(found.t, expected.t)


def test_odd_rays_do_no_harm() -> None:
    """near behind far, NaN near, far at infinity in a bounded box, jitter at both ends."""
    origins, directions = rays(6)
    near, far = reference.box_range(origins, directions, LOWER, UPPER)
    near, far = near.clone(), far.clone()
    near[0], far[0] = far[0].clone(), near[0].clone()
    near[1], far[2] = math.nan, math.inf
    far[3] = math.nan
    jitter = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.0, 1.0])
    arguments = (origins, directions, near, far, jitter, uniform_edges(), random_bits((9, 9, 9)), LOWER, UPPER, False)
    for a, b in zip(cpu.march(*arguments), reference.march(*arguments), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("edges", [torch.zeros(1), torch.tensor([0.0, 9.0])], ids=["none", "one"])
def test_lattices_of_no_and_one_interval(edges: Tensor) -> None:
    origins, directions = rays(5)
    near, far = reference.box_range(origins, directions, LOWER, UPPER)
    arguments = (origins, directions, near, far, torch.full((5,), 0.1), edges, random_bits((4, 4, 4), 1.0), LOWER, UPPER, False)
    for a, b in zip(cpu.march(*arguments), reference.march(*arguments), strict=True):
        assert torch.equal(a, b)


def test_an_empty_batch_has_no_samples() -> None:
    none, empty = torch.zeros(0, 3), torch.zeros(0)
    found = cpu.march(none, none, empty, empty, empty, uniform_edges(), random_bits((4, 4, 4)), LOWER, UPPER, False)
    assert found.t.numel() == 0
    assert found.offsets.tolist() == [0]


def test_changed_bits_are_seen() -> None:
    """The skip grid is cached; an in-place update of the bits must invalidate it."""
    origins, directions = rays(50)
    near, far = reference.box_range(origins, directions, LOWER, UPPER)
    bits = torch.zeros(8, 8, 8, dtype=torch.bool)
    arguments = (origins, directions, near, far, torch.full((50,), 0.5), uniform_edges(), bits, LOWER, UPPER, False)
    assert len(cpu.march(*arguments).t) == 0
    bits[3:5] = True
    assert len(cpu.march(*arguments).t) == len(reference.march(*arguments).t) > 0


def test_box_range_is_the_references() -> None:
    origins, directions = (torch.cat(pair) for pair in zip(rays(200), adversarial(), strict=True))
    for found, expected in zip(
        cpu.box_range(origins, directions, LOWER, UPPER), reference.box_range(origins, directions, LOWER, UPPER), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


class TestComposite:
    def case(self, density_scale: float, seed: int = 0) -> tuple[Tensor, ...]:
        g = torch.Generator().manual_seed(seed)
        counts = torch.randint(0, 12, (40,), generator=g)
        counts[0], counts[1] = 0, 1
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        m = int(offsets[-1])
        density = torch.rand(m, generator=g) * density_scale
        density[int(offsets[2])] = 1e9  # an opaque first sample
        return density, torch.rand(m, 3, generator=g), torch.rand(m, generator=g) * 4, torch.rand(m, generator=g) * 0.1 + 0.01, offsets

    @pytest.mark.parametrize("density_scale", [1e-3, 10.0, 300.0])
    @pytest.mark.parametrize("termination", [0.0, 1e-2])
    def test_values_and_gradients(self, density_scale: float, termination: float) -> None:
        density, rgb, t, delta, offsets = self.case(density_scale)
        g = torch.Generator().manual_seed(9)
        weights = [torch.randn(s, generator=g) for s in ((40, 3), (40,), (40,), (len(t),))]
        results = []
        for module, dtype in ((cpu, torch.float32), (reference, torch.float64)):
            d, c = density.to(dtype).requires_grad_(), rgb.to(dtype).requires_grad_()
            out = module.composite(d, c, t.to(dtype), delta.to(dtype), offsets, termination)
            loss = sum((w * o).sum() for w, o in zip(weights, out, strict=True))
            results.append((*out, *torch.autograd.grad(loss, (d, c))))
        names = ("rgb", "depth", "opacity", "weights", "d density", "d rgb")
        for name, found, expected in zip(names, *results, strict=True):
            assert_close(found, expected, 3e-6 * max(1.0, float(expected.detach().abs().max())), name)  # measured: 6e-7

    def test_no_samples(self) -> None:
        out = cpu.composite(torch.zeros(0), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0), torch.zeros(4, dtype=torch.int64))
        assert out.rgb.tolist() == [[0.0] * 3] * 3
