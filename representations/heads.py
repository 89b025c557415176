"""The small bias-free networks that families share: density head and colour head (Instant-NGP, section 4; PVD, A1)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .. import kernels
from ..kernels.lowered import HANDOVER

APPEARANCE = HANDOVER - 1
"""Appearance numbers handed from block 1 to block 2."""
DIRECTION = 16
"""Spherical-harmonic values of the view direction that block 2 reads (degree 4)."""


class BiasFreeMLP(nn.Module):
    """Linear layers without biases, ReLU between them; ``weights.i`` is [out, in] of layer i."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(out, inside)) for inside, out in itertools.pairwise(widths))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(cast(Tensor, weight) for weight in self.weights)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform Xavier initialisation, as tiny-cuda-nn's fully fused network."""
        for weight in self.tensors:
            uniform_(weight, math.sqrt(6.0 / (weight.shape[0] + weight.shape[1])), generator)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = kernels.ops(x.device).small_mlp(x, self.tensors)
        return found


def density_head(width: int, hidden: int) -> BiasFreeMLP:
    """Encoding [N, width] -> the 16 hand-over numbers."""
    return BiasFreeMLP((width, hidden, HANDOVER))


def color_head(hidden: int) -> BiasFreeMLP:
    """(16 direction values, 15 features) -> raw colour, before the sigmoid."""
    return BiasFreeMLP((DIRECTION + APPEARANCE, hidden, hidden, 3))


@torch.no_grad()
def uniform_(tensor: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill with U(-bound, bound), the same numbers on every device."""
    tensor.copy_(torch.rand(tensor.shape, generator=generator).mul_(2.0 * bound).sub_(bound))


@torch.no_grad()
def normal_(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Fill with N(0, deviation^2), the same numbers on every device."""
    tensor.copy_(torch.randn(tensor.shape, generator=generator).mul_(deviation))
