"""Small fields, rays and comparators shared by the tests of the kernels."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from fieldmorph.kernels.lowered import DENSE, HASHED, TILED, GridEncoding, GridLayout, Lowered

LOWER, UPPER = (-1.0, -0.8, -1.0), (1.0, 1.2, 0.9)


def head(generator: torch.Generator, *widths: int, gain: float = 1.0) -> tuple[Tensor, ...]:
    """Weights [out, in] of a bias-free network that keeps the size of its input."""
    pairs = itertools.pairwise(widths)
    return tuple((torch.rand(o, i, generator=generator) * 2 - 1) * gain * math.sqrt(6 / i) for i, o in pairs)


def grid_field(
    features: int = 4, hidden: int = 32, unbounded: bool = False, seed: int = 0, color: tuple[int, ...] = (32, 32), levels: int = 3
) -> Lowered:
    """A hash-grid field with dense, hashed and tiled levels and visible density."""
    g = torch.Generator().manual_seed(seed)
    resolutions, kinds = (3, 9, 21, 7)[:levels], (DENSE, HASHED, TILED, DENSE)[:levels]
    offsets = [0]
    for resolution, kind in zip(resolutions, kinds, strict=True):
        offsets.append(offsets[-1] + {DENSE: (resolution + 1) ** 3, HASHED: 256, TILED: 300}[kind])
    layout = GridLayout(resolutions, tuple(offsets), kinds, features)
    table = torch.rand(offsets[-1], features, generator=g) * 2 - 1
    density, colors = head(g, layout.width, hidden, 16), head(g, 31, *color, 3, gain=0.6)
    return Lowered(LOWER, UPPER, unbounded, GridEncoding(table, layout), density, colors)


def tensors(lowered: Lowered) -> list[Tensor]:
    """Table and weights of a hash-grid field."""
    assert isinstance(lowered.encoding, GridEncoding)
    return [lowered.encoding.table, *lowered.density_head, *lowered.color_head]


def rebuild(lowered: Lowered, parameters: list[Tensor]) -> Lowered:
    """The field with other tensors in the order of :func:`tensors`."""
    assert isinstance(lowered.encoding, GridEncoding)
    n = len(lowered.density_head)
    return replace(
        lowered,
        encoding=GridEncoding(parameters[0], lowered.encoding.layout),
        density_head=tuple(parameters[1 : 1 + n]),
        color_head=tuple(parameters[1 + n :]),
    )


def leaves(lowered: Lowered, dtype: torch.dtype = torch.float32) -> Lowered:
    """A copy whose tensors are parameters of their own."""
    return rebuild(lowered, [t.detach().to(dtype).clone().requires_grad_() for t in tensors(lowered)])


def directions(count: int, seed: int = 1) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def rays(count: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Rays from around the box towards its inside."""
    origins = directions(count, seed) * 3.0
    targets = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed + 100)) - 0.5
    return origins, torch.nn.functional.normalize(targets - origins, dim=-1)


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of the expected tensor."""
    found, expected = found.detach(), expected.detach().double()
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-12))


def assert_close(found: Tensor, expected: Tensor, absolute: float, what: str) -> None:
    """Equal shapes and a greatest difference of at most ``absolute``; names the worst element."""
    found, expected = found.detach(), expected.detach()
    assert found.shape == expected.shape, f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if found.numel() == 0:
        return
    difference = (found.double() - expected.double()).abs().flatten()
    worst = int(difference.argmax())
    assert not difference.isnan().any(), f"{what}: NaN"
    assert float(difference[worst]) <= absolute, (
        f"{what}: element {worst} is {float(found.flatten()[worst])!r}, expected {float(expected.flatten()[worst])!r} (allowed {absolute})"
    )


def random_bits(shape: tuple[int, int, int], share: float = 0.4, seed: int = 3) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
