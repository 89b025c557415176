"""Calls that between them launch every Triton kernel in the shapes real fields have."""

from __future__ import annotations

import torch
from kernel_cases import directions

from fieldmorph.kernels import cuda
from fieldmorph.kernels.lowered import Lowered
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

SPACE = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def field(family: str, **settings: str) -> Lowered:
    lowered = build(family, settings or None, SPACE, seed=0).lower()
    assert lowered is not None
    return lowered


def gradients(*outputs: torch.Tensor) -> None:
    torch.autograd.backward(outputs, [torch.zeros_like(o) for o in outputs])


def grid() -> None:
    lowered = field("hashgrid", log2_table="10")
    unit = torch.rand(70, 3)
    gradients(cuda.grid_encode(unit, lowered.encoding.table, lowered.encoding.layout))  # type: ignore[union-attr]


def networks() -> None:
    lowered = field("hashgrid", log2_table="10")
    found = cuda.evaluate(lowered, torch.rand(70, 3), directions(70))
    gradients(found.log_density, found.features, found.rgb)
    gradients(cuda.evaluate_density(lowered, torch.rand(70, 3)))


def adam() -> None:
    for shape in ((64, 4), (100,)):
        tensors = [torch.zeros(shape) for _ in range(4)]
        cuda.adam_(*tensors, 1, 0.1, sparse=len(shape) > 1, clear=True)


CASES = {"grid": grid, "networks": networks, "adam": adam}
