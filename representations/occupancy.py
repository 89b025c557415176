"""Which cells of space can hold matter: the grid that lets the renderer skip the rest (Instant-NGP, appendix C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .space import Space

DECAY = 0.7
"""What a visited cell keeps of its old value; instant-ngp's 0.95 is for a grid whose every cell decays at every update."""
ALPHA_THRESHOLD = 0.01
"""A cell is occupied above this alpha over one reference step (instant-ngp's minimal optical thickness) ..."""
MEAN_FRACTION = 0.5
"""... or above this fraction of the mean over all cells where that is lower, so that a young, thin field is not cut away."""
ALPHA_FLOOR = 1e-9
"""Below this nothing is occupied: the mean of what only decays would otherwise keep half of it for ever."""
REFERENCE_STEP = 2.0 * 3.0**0.5 / 1024.0
"""Normalised length: a 1024th of the diagonal of a box of side 2."""
INTERVAL = 16
"""Training steps between updates (Instant-NGP, appendix C)."""
WARMUP_STEPS, WARMUP_FRACTION, FRACTION = 256, 0.25, 1.0 / 32.0
"""Share of the cells one update visits, up to and after this training step (then once more, of the occupied ones)."""

_UNKNOWN, _RULED_OUT = -1.0, -2.0
_CHUNK = 1 << 18


class Occupancy(nn.Module):
    """A cubic grid over unit coordinates; cell (i, j, k) of R^3 is ``bits[i, j, k]``, i along x.

    ``density`` holds the decayed maximum of the alpha seen in each cell over one normalised
    reference step; -1 stands for a cell nobody has looked at yet (occupied), -2 for one that
    :meth:`restrict` ruled out for good.  ``bits`` is what the marcher reads.  All cells start occupied.
    """

    density: Tensor
    bits: Tensor

    def __init__(self, resolution: int = 128) -> None:
        super().__init__()
        self.register_buffer("density", torch.full((resolution, resolution, resolution), _UNKNOWN))
        self.register_buffer("bits", torch.ones(resolution, resolution, resolution, dtype=torch.bool))

    @property
    def resolution(self) -> int:
        return self.bits.shape[0]

    @property
    def occupied_fraction(self) -> float:
        return float(self.bits.float().mean())

    @torch.no_grad()
    def update(
        self,
        density: Callable[[Tensor], Tensor],
        space: Space,
        step: int,
        generator: torch.Generator,
        fraction: float | None = None,
    ) -> None:
        """Look at some cells anew, each at one random point, and rewrite ``bits``.

        Cells take turns: every update visits the next share of all that are not ruled out and, after warm-up,
        as many occupied ones.  Unlike instant-ngp only visited cells decay, so the share an update visits changes
        how fast the grid follows the field, not what it converges to.

        Args:
            density: world positions [N, 3] -> density per normalised length [N].
            step: training step; decides whose turn it is, and between warm-up and later.
            generator: CPU generator; the same state gives the same update.
            fraction: share of all cells to visit (1: every cell); None: the schedule's.
        """
        flat = self.density.view(-1)
        allowed = (flat != _RULED_OUT).nonzero()[:, 0]
        if fraction is not None:
            turns = [(allowed, max(1, round(1.0 / fraction)))]
        elif step < WARMUP_STEPS:
            turns = [(allowed, max(1, round(1.0 / WARMUP_FRACTION)))]
        else:
            occupied = self.bits.view(-1).nonzero()[:, 0]
            count = max(1, int(FRACTION * flat.numel()))
            turns = [(allowed, round(1.0 / FRACTION)), (occupied, max(1, -(-occupied.numel() // count)))]
        for cells, stride in turns:
            for part in torch.split(cells[step // INTERVAL % stride :: stride], _CHUNK):
                alpha = self._alpha(density, space, part, generator)
                old = flat[part]
                flat[part] = torch.where(old == _UNKNOWN, alpha, torch.maximum(old * DECAY, alpha))
        self.refresh_bits()

    def _alpha(self, density: Callable[[Tensor], Tensor], space: Space, cells: Tensor, generator: torch.Generator) -> Tensor:
        """Alpha of a reference step at one random point of each cell.

        In an unbounded space the step grows with the distance from the box, as the marcher's does (its cone), so
        that a far, long and thin cell is judged by what a ray would see of it.
        """
        n = self.resolution
        corner = torch.stack([cells // (n * n), cells // n % n, cells % n], -1)
        jitter = torch.rand(cells.shape[0], 3, generator=generator).to(cells.device)
        unit = ((corner + jitter) / n).clamp(1e-6, 1.0 - 1e-6)
        step = torch.full_like(unit[:, 0], REFERENCE_STEP)
        if space.unbounded:
            step = step / space.shrinking(unit)
        alpha = -torch.expm1(-density(space.from_unit(unit)).float() * step)
        return torch.nan_to_num(alpha, nan=1.0).clamp(0.0, 1.0)  # a cell the field cannot answer for is not skipped

    @torch.no_grad()
    def refresh_bits(self) -> None:
        """Rewrite ``bits`` from ``density``: above the threshold, or never looked at."""
        known = self.density >= 0.0
        mean = self.density.clamp_min(0.0).sum() / known.sum().clamp_min(1)
        threshold = torch.clamp(MEAN_FRACTION * mean, ALPHA_FLOOR, ALPHA_THRESHOLD)
        self.bits.copy_((self.density > threshold) | (self.density == _UNKNOWN))

    @torch.no_grad()
    def open_middle(self) -> None:
        """Occupy the half of every axis around the middle, which is the box of an unbounded space, but for cells ruled out."""
        quarter = self.resolution // 4
        middle = (slice(quarter, self.resolution - quarter),) * 3
        self.bits[middle] = self.density[middle] != _RULED_OUT

    @torch.no_grad()
    def restrict(self, keep: Tensor) -> None:
        """Rule out, for good, every cell where ``keep`` [R, R, R] bool is false (a visual hull, an alpha mask, an erased region)."""
        if keep.shape != self.bits.shape or keep.dtype != torch.bool:
            raise ValueError(f"keep must be bool {tuple(self.bits.shape)}, got {keep.dtype} {tuple(keep.shape)}")
        keep = keep.to(self.bits.device)
        self.density[~keep] = _RULED_OUT
        self.bits &= keep

    @torch.no_grad()
    def initialise(self, mask: Callable[[Tensor], Tensor], space: Space, generator: torch.Generator, points: int = 8) -> None:
        """Start over from a mask: a cell none of whose ``points`` random points the mask accepts is ruled out.

        Args:
            mask: world positions [N, 3] -> bool [N], true where matter may be.
        """
        n = self.resolution
        keep = torch.zeros(n**3, dtype=torch.bool, device=self.bits.device)
        cells = torch.arange(n**3, device=self.bits.device)
        for _ in range(points):
            for part in torch.split(cells[~keep], _CHUNK):
                corner = torch.stack([part // (n * n), part // n % n, part % n], -1)
                jitter = torch.rand(part.shape[0], 3, generator=generator).to(part.device)
                keep[part] |= mask(space.from_unit(((corner + jitter) / n).clamp(1e-6, 1.0 - 1e-6)))
        self.density.fill_(_UNKNOWN)
        self.bits.fill_(True)
        self.restrict(keep.view_as(self.bits))

    @torch.no_grad()
    def remap(self, old: Space, new: Space) -> None:
        """Carry the grid over to a space inside the old one (a shrunken box): a cell is the maximum over its corners and centre."""
        n = self.resolution
        axis = torch.arange(n, device=self.bits.device)
        corner = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
        best = torch.full((n**3,), _RULED_OUT, device=self.bits.device)
        unknown = torch.zeros(n**3, dtype=torch.bool, device=self.bits.device)
        for offset in ([0.5, 0.5, 0.5], *([(c & 1) + 0.0, (c >> 1 & 1) + 0.0, (c >> 2 & 1) + 0.0] for c in range(8))):
            inner = torch.tensor(offset, device=self.bits.device).clamp(1e-3, 1.0 - 1e-3)
            unit = old.to_unit(new.from_unit((corner + inner) / n))
            index = (unit * n).long().clamp(0, n - 1)
            value = self.density[index[:, 0], index[:, 1], index[:, 2]]
            unknown |= value == _UNKNOWN
            best = torch.maximum(best, value)
        best = torch.where(unknown, torch.full_like(best, _UNKNOWN), best)
        self.density.copy_(best.view_as(self.density))
        self.refresh_bits()

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Unit coordinates (lower [3], upper [3]) of the smallest box around the occupied cells; None where all are empty."""
        index = self.bits.nonzero()
        if not index.numel():
            return None
        return index.amin(0) / self.resolution, (index.amax(0) + 1) / self.resolution

    def packed(self) -> Tensor:
        """``bits`` as uint8 [ceil(R^3 / 8)], the first cell in the highest bit (numpy.packbits)."""
        return torch.from_numpy(np.packbits(self.bits.cpu().numpy().reshape(-1)))

    @torch.no_grad()
    def load_packed(self, packed: Tensor) -> None:
        """Inverse of :meth:`packed`; ``density`` becomes 1 in occupied cells and 0 elsewhere."""
        count = self.bits.numel()
        if packed.dtype != torch.uint8 or packed.shape != (-(-count // 8),):
            raise ValueError(f"packed bits must be uint8 [{-(-count // 8)}], got {packed.dtype} {tuple(packed.shape)}")
        bits = torch.from_numpy(np.unpackbits(packed.cpu().numpy(), count=count).astype(bool)).view(self.bits.shape)
        self.bits.copy_(bits)
        self.density.copy_(bits.float())
