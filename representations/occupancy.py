"""Which cells of space can hold matter: the grid that lets the renderer skip the rest (Instant-NGP, appendix C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Occupancy(nn.Module):
    """A cubic grid over unit coordinates; cell (i, j, k) of R^3 is ``bits[i, j, k]``, i along x.

    ``density`` holds the decayed maximum of the alpha seen in each cell over one
    normalised reference step; ``bits`` is what the marcher reads.  All cells start occupied.
    """

    density: Tensor
    bits: Tensor

    def __init__(self, resolution: int = 128) -> None:
        super().__init__()
        self.register_buffer("density", torch.zeros(resolution, resolution, resolution))
        self.register_buffer("bits", torch.ones(resolution, resolution, resolution, dtype=torch.bool))

    @property
    def resolution(self) -> int:
        return self.bits.shape[0]
