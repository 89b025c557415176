"""ADMM against problems whose answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fieldmorph.compress.admm import Admm, Penalty, project


def test_projection_of_small_examples() -> None:
    assert torch.allclose(project(torch.tensor([1.0, 1.0, 0.0, 0.0]), 0.25), torch.tensor([0.5, 0.5, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(project(torch.tensor([1.0, 0.2, 0.1, -3.0]), 0.5), torch.tensor([1.0, 0.2, 0.1, 0.0]))
    assert torch.allclose(project(torch.tensor([3.0, 0.4, 0.0, 0.0]), 0.25), torch.tensor([1.0, 0.0, 0.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("target", [0.01, 0.1, 0.3])
def test_projection_is_the_nearest_point(target: float) -> None:
    """Feasible, and no feasible point lies nearer (the variational inequality of a projection onto a convex set)."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, generator=generator, dtype=torch.float64)
    found = project(values, target)
    assert float(found.min()) >= 0.0 and float(found.max()) <= 1.0
    assert abs(float(found.mean()) - target) < 1e-9
    for _ in range(200):
        other = torch.rand(500, generator=generator, dtype=torch.float64) ** 8
        other = other * min(1.0, target / float(other.mean()))
        assert float(((values - found) * (other - found)).sum()) < 1e-6


def answer(wanted: Tensor, weights: Tensor, target: float) -> Tensor:
    """argmin sum w (p - a)^2 / 2 over 0 <= p <= 1, mean p <= target: clamp(a - m / w) with the multiplier m that keeps the mean."""
    low, high = 0.0, 100.0
    for _ in range(100):
        m = 0.5 * (low + high)
        low, high = (m, high) if float((wanted - m / weights).clamp(0, 1).mean()) > target else (low, m)
    return (wanted - high / weights).clamp(0, 1)


def test_a_weighted_problem_converges_to_its_answer() -> None:
    generator = torch.Generator().manual_seed(1)
    wanted = torch.rand(200, generator=generator, dtype=torch.float64)
    weights = 0.2 + 2.0 * torch.rand(200, generator=generator, dtype=torch.float64)
    p = torch.full_like(wanted, 0.5).requires_grad_()
    admm = Admm(p.detach(), 0.2, Penalty(first=0.3, last=3.0, begin=0.0, end=0.5))
    for outer in range(300):
        admm.update(p.detach(), outer / 300)
        for _ in range(20):
            loss = 0.5 * (weights * (p - wanted).square()).sum() + admm.term(p)
            (gradient,) = torch.autograd.grad(loss, p)
            with torch.no_grad():
                p -= 0.15 * gradient
    expected = answer(wanted, weights, 0.2)
    assert float((p.detach() - expected).abs().max()) < 5e-3
    assert abs(float(p.detach().mean()) - 0.2) < 2e-3


def test_what_the_loss_does_not_hold_open_closes() -> None:
    """Through a sigmoid and Adam, as in training: a tenth of the cells is worth something."""
    worth = (torch.arange(400) % 10 == 0).float()
    logits = torch.zeros(400, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05, eps=1e-15)
    admm = Admm(logits.detach(), 0.12, Penalty(first=1e-4, last=1e-1, begin=0.1, end=0.7))
    for step in range(1500):
        p = torch.sigmoid(logits)
        loss = 1e-2 * (worth * (1.0 - p)).sum() + (admm.term(p) if admm.rho else 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            admm.update(torch.sigmoid(logits.detach()), step / 1500)
    p = torch.sigmoid(logits.detach())
    assert float(p.mean()) < 0.13
    assert float(p[worth > 0].min()) > 0.8
    assert float(p[worth == 0].max()) < 0.05


def test_the_schedule_keeps_the_price() -> None:
    """When rho rises, scaled duals shrink: rho * u, the price of a cell, does not jump."""
    admm = Admm(torch.zeros(4), 0.25, Penalty(first=0.1, last=1.0, begin=0.0, end=1.0))
    p = torch.tensor([1.0, 0.5, 0.0, 0.0])
    assert admm.term(p) is None
    admm.update(p, 0.0)
    price = admm.rho * admm.dual
    admm.update(admm.auxiliary.clone(), 1.0)
    assert admm.rho == pytest.approx(1.0)
    assert torch.allclose(admm.rho * admm.dual, price, atol=0.3)
    assert Penalty(begin=0.2).at(0.1) == 0.0
