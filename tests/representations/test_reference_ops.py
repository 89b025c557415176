"""The reference operations against independent, slower statements of what they mean."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from fieldmorph.kernels import reference as ops
from fieldmorph.kernels.lowered import DENSE, HASHED, TILED, GridEncoding, GridLayout, Lowered

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_grid_encode_against_loops() -> None:
    layout = GridLayout((3, 8, 16), (0, 64, 192, 320), (DENSE, HASHED, TILED), 2)
    table = _random(320, 2)
    unit = torch.cat([_random(20, 3), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.5, 0.0]], dtype=torch.float64)])
    found = ops.grid_encode(unit, table, layout)
    for n, level in itertools.product(range(len(unit)), range(3)):
        r, start, rows = layout.resolutions[level], layout.offsets[level], layout.offsets[level + 1] - layout.offsets[level]
        x = unit[n].numpy() * r
        cell = np.minimum(np.floor(x), r - 1).astype(int)
        expected = np.zeros(2)
        for corner in itertools.product((0, 1), repeat=3):
            i, j, k = (int(c) for c in cell + corner)
            weight = np.prod([f if c else 1 - f for f, c in zip(x - cell, corner, strict=True)])
            if layout.kinds[level] == HASHED:
                row = ((i * 1) ^ (j * 2654435761) ^ (k * 805459861)) % (1 << 32) % rows
            else:
                row = i + (r + 1) * (j + (r + 1) * k)
                row = row if layout.kinds[level] == DENSE else row % rows
            expected += weight * table[start + row].numpy()
        np.testing.assert_allclose(found[n, 2 * level : 2 * level + 2].numpy(), expected, atol=1e-12)


def test_grid_encode_outside_reads_the_nearest_face() -> None:
    layout = GridLayout((4,), (0, 128), (DENSE,), 1)
    table = _random(128, 1)
    outside = torch.tensor([[-3.0, 0.5, 2.0], [float("nan"), 0.5, float("inf")]], dtype=torch.float64)
    inside = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]], dtype=torch.float64)
    assert torch.equal(ops.grid_encode(outside, table, layout), ops.grid_encode(inside, table, layout))


def test_vm_products_at_vertices_and_between() -> None:
    planes = tuple(_random(b, a, 2, seed=s) for s, (a, b) in enumerate(((4, 5), (4, 6), (5, 6))))
    lines = tuple(_random(n, 2, seed=10 + n) for n in (6, 5, 4))
    i, j, k = 2, 3, 1  # of 4, 5, 6 vertices along x, y, z
    unit = torch.tensor([[i / 3, j / 4, k / 5]], dtype=torch.float64)
    expected = torch.cat([planes[0][j, i] * lines[0][k], planes[1][k, i] * lines[1][j], planes[2][k, j] * lines[2][i]])
    assert torch.allclose(ops.vm_products(unit, planes, lines)[0], expected)
    # half-way along x, mode 0's plane is the mean of its neighbours, and mode 2's line likewise
    unit = torch.tensor([[(i + 0.5) / 3, j / 4, k / 5]], dtype=torch.float64)
    found = ops.vm_products(unit, planes, lines)[0]
    assert torch.allclose(found[:2], 0.5 * (planes[0][j, i] + planes[0][j, i + 1]) * lines[0][k])
    assert torch.allclose(found[4:], planes[2][k, j] * 0.5 * (lines[2][i] + lines[2][i + 1]))


def test_cp_products_at_a_vertex() -> None:
    lines = tuple(_random(n, 3, seed=n) for n in (4, 5, 6))
    unit = torch.tensor([[2 / 3, 3 / 4, 1 / 5], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(
        ops.cp_products(unit, lines), torch.stack([lines[0][2] * lines[1][3] * lines[2][1], lines[0][3] * lines[1][4] * lines[2][5]])
    )


def test_voxel_interpolate_reads_empty_where_pruned() -> None:
    links = torch.full((3, 3, 3), -1, dtype=torch.int32)
    links[1, 1, 1] = 0
    data = torch.tensor([[5.0, 7.0]], dtype=torch.float64)
    unit = torch.tensor([[0.5, 0.5, 0.5], [0.25, 0.5, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(
        ops.voxel_interpolate(unit, links, data, -1.0), torch.tensor([[5.0, 7.0], [2.0, 3.0], [-1.0, -1.0]], dtype=torch.float64)
    )
    nothing = ops.voxel_interpolate(unit, torch.full_like(links, -1), data[:0], -1.0)
    assert torch.equal(nothing, torch.full((3, 2), -1.0, dtype=torch.float64))


def test_spherical_harmonics_against_scipy() -> None:
    """Real harmonics are sqrt(2) times the real or imaginary part of the complex ones; instant-ngp keeps the Condon-Shortley sign."""
    d = torch.nn.functional.normalize(_random(50, 3) - 0.5, dim=-1)
    x, y, z = d.numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    found = ops.spherical_harmonics(d, 4).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), theta, phi)
            expected = value.real if order == 0 else math.sqrt(2.0) * (value.imag if order < 0 else value.real)
            np.testing.assert_allclose(found[:, degree * degree + degree + order], expected, atol=1e-6, err_msg=f"{degree}, {order}")


def test_spherical_harmonics_refuse_other_degrees() -> None:
    with pytest.raises(ValueError, match=r"1\.\.4, got 5"):
        ops.spherical_harmonics(torch.zeros(1, 3), 5)


def _march_by_hand(o, d, near, far, jitter, edges, bits, unbounded):  # type: ignore[no-untyped-def]
    found = []
    for k in range(len(edges) - 1):
        t = near + (edges[k] + jitter * (edges[k + 1] - edges[k]))
        if not t < far:
            continue
        unit = ops.to_unit((o + t * d)[None], *BOX, unbounded)[0]
        if bool(((unit >= 0) & (unit <= 1)).all()):
            cell = [min(int(u * n), n - 1) for u, n in zip(unit.tolist(), bits.shape, strict=True)]
            if bits[tuple(cell)]:
                found.append((float(t), float(edges[k + 1] - edges[k])))
    return found


@pytest.mark.parametrize("unbounded", [False, True])
def test_march_against_loops(unbounded: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(30, 3, generator=generator, dtype=torch.float64) * 1.5
    directions = torch.nn.functional.normalize(torch.randn(30, 3, generator=generator, dtype=torch.float64), dim=-1)
    origins[0], directions[0] = torch.tensor([0.0, 0.0, -2.0]), torch.tensor([0.0, 0.0, 1.0])  # zero components
    bits = torch.rand(8, 8, 8, generator=generator) > 0.4
    edges = torch.cat([torch.zeros(1), torch.rand(40, generator=generator).cumsum(0) * 0.2]).double()
    jitter = torch.rand(30, generator=generator, dtype=torch.float64)
    near, far = ops.box_range(origins, directions, *BOX)
    if unbounded:
        near, far = torch.full_like(near, 0.1), torch.full_like(far, math.inf)
    samples = ops.march(origins, directions, near, far, jitter, edges, bits, *BOX, unbounded)
    assert samples.rays.shape == samples.t.shape == samples.delta.shape
    assert samples.t.numel() > 30
    for ray in range(30):
        expected = _march_by_hand(origins[ray], directions[ray], near[ray], far[ray], jitter[ray], edges, bits, unbounded)
        part = slice(int(samples.offsets[ray]), int(samples.offsets[ray + 1]))
        assert torch.equal(samples.rays[part], torch.full((len(expected),), ray))
        assert samples.t[part].tolist() == [t for t, _ in expected]
        assert samples.delta[part].tolist() == [delta for _, delta in expected]


def test_march_gives_degenerate_rays_nothing() -> None:
    nan, inf = float("nan"), float("inf")
    origins = torch.tensor([[0.0, 0, 0], [nan, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [inf, 0, 0], [0, 0, 0]])
    directions = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 0], [0, nan, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    near = torch.tensor([0.0, 0, 0, 0, 1, 0, nan])
    far = torch.tensor([inf, 1, 1, 1, 1, 1, 1])
    samples = ops.march(
        origins, directions, near, far, torch.full((7,), 0.5), torch.linspace(0, 0.5, 6), torch.ones(4, 4, 4, dtype=torch.bool), *BOX, False
    )
    assert samples.offsets.tolist() == [0, 5, 5, 5, 5, 5, 5, 5]
    empty = ops.march(
        *(torch.zeros(0, 3),) * 2, *(torch.zeros(0),) * 3, torch.linspace(0, 1, 3), torch.ones(2, 2, 2, dtype=torch.bool), *BOX, False
    )
    assert empty.offsets.tolist() == [0]


def test_march_does_not_depend_on_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldmorph.kernels import reference_march

    origins, directions = _random(50, 3) - 0.5, torch.nn.functional.normalize(_random(50, 3, seed=1) - 0.5, dim=-1)
    near, far = ops.box_range(origins, directions, *BOX)
    arguments = (origins, directions, near, far, _random(50), torch.linspace(0, 2, 21).double(), _random(4, 4, 4) > 0.5, *BOX, False)
    whole = ops.march(*arguments)
    monkeypatch.setattr(reference_march, "_CHUNK", 70)
    for a, b in zip(whole, ops.march(*arguments), strict=True):
        assert torch.equal(a, b)


def test_box_range_parallel_and_missing_rays() -> None:
    origins = torch.tensor([[0.0, 0, -3], [2, 0, -3], [0, 0, 0], [-3, -3, -3], [0, 0, 3]])
    directions = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 1, 0], [3**-0.5] * 3, [0, 0, 1]])
    near, far = ops.box_range(origins, directions, *BOX)
    assert near[0] == 2
    assert far[0] == 4
    assert near[1] > far[1]
    assert (near[2], far[2]) == (0, 1)
    assert float(near[3]) == pytest.approx(2 * 3**0.5)
    assert near[4] > far[4], "the box is behind"


def test_composite_against_loops() -> None:
    density = _random(12, seed=1) * 4
    density[5] = 1e6  # fully opaque
    rgb, delta = _random(12, 3, seed=2), _random(12, seed=3) * 0.3
    t = _random(12, seed=4).sort().values
    offsets = torch.tensor([0, 3, 3, 9, 12])
    found = ops.composite(density, rgb, t, delta, offsets, termination=0.2)
    for ray in range(4):
        through, color, depth, opacity = 1.0, torch.zeros(3, dtype=torch.float64), 0.0, 0.0
        for m in range(int(offsets[ray]), int(offsets[ray + 1])):
            if through < 0.2:
                assert found.weights[m] == 0
                continue
            alpha = 1 - math.exp(-float(density[m] * delta[m]))
            weight = through * alpha
            assert float(found.weights[m]) == pytest.approx(weight, abs=1e-12)
            color, depth, opacity = color + weight * rgb[m], depth + weight * float(t[m]), opacity + weight
            through *= 1 - alpha
        assert torch.allclose(found.rgb[ray], color)
        assert float(found.depth[ray]) == pytest.approx(depth)
        assert float(found.opacity[ray]) == pytest.approx(opacity)


def test_composite_gradients() -> None:
    density, rgb = (_random(12, seed=1) * 4).requires_grad_(), _random(12, 3, seed=2).requires_grad_()
    t, delta, offsets = _random(12, seed=4), _random(12, seed=3) * 0.3, torch.tensor([0, 3, 3, 9, 12])
    assert torch.autograd.gradcheck(lambda s, c: ops.composite(s, c, t, delta, offsets, 1e-3), (density, rgb))
    opaque = torch.tensor([50.0, 1.0], dtype=torch.float64, requires_grad=True)
    ops.composite(opaque, rgb[:2].detach(), t[:2], torch.ones(2).double(), torch.tensor([0, 2]), 1e-3).rgb.sum().backward()
    assert opaque.grad is not None
    assert opaque.grad[1] == 0, "samples behind the termination get no gradient"


def test_composite_far_along_many_rays_keeps_its_digits() -> None:
    """One running sum serves a million samples; in float32 the last rays would lose theirs."""
    density = torch.full((200_000,), 50.0)
    offsets = torch.arange(0, 200_001, 2)
    found = ops.composite(density, torch.ones(200_000, 3), density, torch.full((200_000,), 0.02), offsets, 0.0)
    assert float((found.opacity - (1 - math.exp(-2.0))).abs().max()) < 1e-6


def test_composite_of_nothing() -> None:
    found = ops.composite(torch.zeros(0), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0), torch.zeros(4, dtype=torch.int64))
    assert found.rgb.shape == (3, 3)
    assert float(found.opacity.sum()) == 0


def _lowered(dtype: torch.dtype = torch.float32) -> Lowered:
    layout = GridLayout((4, 8), (0, 128, 256), (DENSE, HASHED), 2)
    table = (4.0 * (_random(256, 2, dtype=dtype) - 0.5)).requires_grad_()
    head = tuple((2.0 * (_random(*shape, seed=9, dtype=dtype) - 0.5)).requires_grad_() for shape in ((8, 4), (16, 8)))
    color = tuple((_random(*shape, seed=8, dtype=dtype) - 0.5).requires_grad_() for shape in ((8, 31), (8, 8), (3, 8)))
    return Lowered(*BOX, False, GridEncoding(table, layout), head, color)


def _scene_rays(count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 3
    directions = torch.nn.functional.normalize(0.7 * torch.randn(count, 3, generator=generator) - origins, dim=-1)
    near, far = ops.box_range(origins, directions, *BOX)
    return origins, directions, near, far, torch.rand(count, generator=generator), torch.linspace(0, 2 * 3**0.5, 65)


def test_render_rays_is_march_evaluate_composite(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered, bits = _lowered(), _random(8, 8, 8) > 0.3
    rays = _scene_rays(40)
    found = ops.render_rays(lowered, bits, *rays, scale=1.5, termination=1e-2)
    samples = ops.march(*rays, bits, *BOX, False)
    position = rays[0][samples.rays] + samples.t[:, None] * rays[1][samples.rays]
    answer = ops.evaluate(lowered, position, rays[1][samples.rays])
    density = answer.gate * ops.truncated_exp(answer.log_density)
    expected = ops.composite(density, answer.rgb, samples.t, samples.delta * 1.5, samples.offsets, 1e-2)
    for name in ("rgb", "depth", "opacity"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-5), name
    through, _ = ops.transmittance(density, samples.delta * 1.5, samples.offsets)
    live = torch.zeros(40, dtype=torch.int64).index_add_(0, samples.rays, (through >= 1e-2).long())
    assert torch.equal(found.cost, live)

    weights = _random(40, 5, dtype=torch.float32)
    parameters = [lowered.encoding.table, *lowered.density_head, *lowered.color_head]  # type: ignore[union-attr]

    def loss(out: ops.RenderedRays | ops.Composited) -> torch.Tensor:
        return (weights[:, :3] * out.rgb).sum() + (weights[:, 3] * out.depth).sum() + (weights[:, 4] * out.opacity).sum()

    whole, plain = torch.autograd.grad(loss(found), parameters), torch.autograd.grad(loss(expected), parameters)
    monkeypatch.setattr(ops, "_CHUNK", 100)  # several chunks, recomputed in backward
    parts = torch.autograd.grad(loss(ops.render_rays(lowered, bits, *rays, scale=1.5, termination=1e-2)), parameters)
    for a, b, c in zip(whole, plain, parts, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()))
        assert torch.allclose(a, c, atol=1e-4 * float(b.abs().max()))


def test_render_rays_without_rays_or_matter() -> None:
    lowered, rays = _lowered(), _scene_rays(5)
    dark = ops.render_rays(lowered, torch.zeros(4, 4, 4, dtype=torch.bool), *rays, scale=1.0)
    assert float(dark.opacity.detach().abs().max()) == 0
    assert dark.cost.tolist() == [0] * 5
    none = ops.render_rays(lowered, torch.ones(4, 4, 4, dtype=torch.bool), *(r[:0] for r in rays[:5]), rays[5], scale=1.0)
    assert none.rgb.shape == (0, 3)


@pytest.mark.parametrize("sparse", [False, True])
def test_adam_against_torch(sparse: bool) -> None:
    param = torch.nn.Parameter(_random(6, 3))
    ours, m, v = param.detach().clone(), torch.zeros(6, 3).double(), torch.zeros(6, 3).double()
    optimizer = torch.optim.Adam([param], lr=0.02, betas=(0.9, 0.99), eps=1e-15)
    for step in range(1, 6):
        grad = _random(6, 3, seed=step) - 0.5
        param.grad = grad.clone()
        optimizer.step()
        ops.adam_(ours, grad, m, v, step, 0.02, (0.9, 0.99), 1e-15, sparse, clear=step == 5)
    assert torch.allclose(ours, param.detach(), atol=1e-12)
    assert float(grad.abs().sum()) == 0, "cleared on request"


def test_sparse_adam_leaves_untouched_rows() -> None:
    param, m, v = _random(4, 2), _random(4, 2, seed=1), _random(4, 2, seed=2)
    before = param.clone(), m.clone(), v.clone()
    grad = torch.zeros(4, 2).double()
    grad[2, 1] = 1.0
    ops.adam_(param, grad, m, v, 3, 0.1, sparse=True)
    for now, then in zip((param, m, v), before, strict=True):
        assert torch.equal(now[[0, 1, 3]], then[[0, 1, 3]])
        assert not torch.equal(now[2], then[2])


def test_truncated_exp() -> None:
    x = torch.tensor([-40.0, 0.0, 20.0, 80.0], requires_grad=True)
    y = ops.truncated_exp(x)
    y.sum().backward()
    assert y.detach().tolist() == pytest.approx([math.exp(-40), 1.0, math.exp(20), math.exp(30)], rel=1e-5)
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([math.exp(-15), 1.0, math.exp(15), math.exp(15)], rel=1e-5)
