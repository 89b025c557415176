"""Analytic gradients against central differences in float64.

Tolerance: central differences of step 1e-6 in float64 carry about 1e-9 of noise relative to the value; the worst
relative error seen over all families is 2e-7, allowed is 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from conformance_settings import directions, lively, number, points
from torch import Tensor

from fieldmorph import kernels

STEP = 1e-6


def _assert_directional(function: Callable[[], Tensor], variables: list[Tensor], what: str) -> None:
    """The gradient of a scalar along random directions equals its central difference."""
    value = function()
    gradients = torch.autograd.grad(value, variables, allow_unused=True)
    generator = torch.Generator().manual_seed(0)
    for index, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        assert gradient is not None, f"{what}: variable {index} has no gradient"
        direction = torch.randn(variable.shape, generator=generator, dtype=torch.float64)
        analytic = number((gradient * direction).sum())
        with torch.no_grad():
            start = variable.clone()
            variable.copy_(start + STEP * direction)
            above = number(function())
            variable.copy_(start - STEP * direction)
            below = number(function())
            variable.copy_(start)
        numeric = (above - below) / (2.0 * STEP)
        scale = max(abs(analytic), abs(numeric), 1e-3)
        assert abs(analytic - numeric) <= 1e-5 * scale, f"{what}: variable {index} {tuple(variable.shape)}: {analytic} against {numeric}"


def _score(name: str) -> tuple[torch.nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    field = lively(name).double()
    weights = torch.randn(40, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def score(x: Tensor, d: Tensor) -> Tensor:
        geometry = field.geometry(x)
        rgb = field.color(geometry.features, d)
        return (weights[:, 0] * geometry.log_density).sum() + (weights[:, 1:] * rgb).sum()

    return field, score


def check_parameter_gradients(name: str) -> None:
    before = kernels.chosen()
    kernels.set_kernels("reference")  # the definition: compiled kernels are float32 and have parity tests of their own
    try:
        field, score = _score(name)
        x, d = points(40, dtype=torch.float64), directions(40, dtype=torch.float64)
        _assert_directional(lambda: score(x, d), list(field.parameters()), name)
    finally:
        kernels.set_kernels(before)


def check_position_gradients(name: str) -> None:
    before = kernels.chosen()
    kernels.set_kernels("reference")
    try:
        _, score = _score(name)
        x, d = points(40, dtype=torch.float64).requires_grad_(), directions(40, dtype=torch.float64)
        _assert_directional(lambda: score(x, d), [x], name)
    finally:
        kernels.set_kernels(before)


def check_regularization(name: str) -> None:
    """Finite, a scalar, the same for the same step, and it reaches parameters."""
    field = lively(name)
    first = field.regularization(7)
    if first is None:
        return
    assert first.shape == ()
    assert bool(torch.isfinite(first))
    assert number(first) == number(field.regularization(7))
    first.backward()
    reached = [p.grad for p in field.parameters() if p.grad is not None]
    assert any(bool(g.abs().sum() > 0) for g in reached)
    assert all(not g.is_sparse and bool(torch.isfinite(g).all()) for g in reached)
