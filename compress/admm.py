"""The alternating direction method of multipliers (Boyd et al. 2011) that makes a saliency grid sparse (HollowNeRF, section 3.3).

Wanted is the field of least loss whose saliency p has a mean of at most ``target``.  ADMM gives the constraint a copy z of
p of its own and pays for their difference:

    minimise  loss(field) + rho / 2 |p - z + u|^2   over the field, a few optimiser steps at a time,
    z <- the point of {0 <= z <= 1, mean z <= target} next to p + u,
    u <- u + p - z                                   the (scaled) dual variables.

Where the loss holds a cell open, u falls until the price is paid; where it does not care, z and with it p go to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@torch.no_grad()
def project(values: Tensor, target: float) -> Tensor:
    """The point of {z: 0 <= z <= 1, mean z <= target} nearest to ``values``, any shape.

    It is clamp(values - t, 0, 1) with the smallest t >= 0 that keeps the mean; t is found by bisection.
    """
    clamped = values.clamp(0.0, 1.0)
    if float(clamped.double().mean()) <= target:
        return clamped
    low, high = 0.0, float(values.max())
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float((values - middle).clamp(0.0, 1.0).double().mean()) > target:
            low = middle
        else:
            high = middle
    return (values - high).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Penalty:
    """How much a unit of squared difference costs per cell, over the shares of a run."""

    first: float = 1e-8
    last: float = 1e-5
    begin: float = 0.2
    """Nothing is asked before this share: the scene must be learned first (all saliencies start nearly open)."""
    end: float = 0.7
    """From here on the penalty stays at ``last``."""

    def at(self, progress: float) -> float:
        """rho after a share ``progress`` of the run: 0, then a geometric rise."""
        if progress < self.begin:
            return 0.0
        share = min(1.0, (progress - self.begin) / max(1e-9, self.end - self.begin))
        return self.first * (self.last / self.first) ** share


class Admm:
    """Auxiliary and dual variables of one tensor p in [0, 1].

    Args:
        target: greatest mean of p.
        penalty: the schedule of rho.
    """

    def __init__(self, like: Tensor, target: float, penalty: Penalty) -> None:
        self.target, self.penalty = target, penalty
        self.auxiliary = torch.zeros_like(like, requires_grad=False)
        self.dual = torch.zeros_like(like, requires_grad=False)
        self.rho = 0.0

    def term(self, p: Tensor) -> Tensor | None:
        """What the loss gains: rho / 2 |p - z + u|^2, differentiable in p; None before the schedule begins."""
        if self.rho == 0.0:
            return None
        return 0.5 * self.rho * (p - self.auxiliary + self.dual).square().sum()

    @torch.no_grad()
    def update(self, p: Tensor, progress: float) -> None:
        """z, u and rho from the present p. Scaled dual variables shrink as rho grows, so that the unscaled ones are kept."""
        rho = self.penalty.at(progress)
        if rho == 0.0:
            return
        if self.rho:
            self.dual.mul_(self.rho / rho)
        self.rho = rho
        self.auxiliary.copy_(project(p + self.dual, self.target))
        self.dual.add_(p - self.auxiliary)

    @property
    def residual(self) -> float:
        """Root mean square of what p and z still differ by, as of the last update with unchanged rho."""
        return float(self.dual.square().mean().sqrt())
