"""The region of space a field lives in: a box, optionally continued to infinity by a contraction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.reference import inside_unit, to_unit

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Space:
    """An axis-aligned box in world units.

    With ``unbounded`` the box is only the uncontracted middle: all of space is
    mapped into a cube of twice its side by mip-NeRF 360's contraction (section 2)
    with the maximum norm, so that the image of space is a box and not a ball.

    Every representation reads positions in *unit coordinates* of that image,
    [0, 1]^3 with (0, 0, 0) at its lowest corner.
    """

    lower: Vec3
    upper: Vec3
    unbounded: bool = False

    def __post_init__(self) -> None:
        for low, high in zip(self.lower, self.upper, strict=True):
            if not (high - low > 0.0 and abs(low) < 1e9 and abs(high) < 1e9):
                raise ValueError(f"a box needs finite corners with lower < upper, got {self.lower} and {self.upper}")

    @property
    def size(self) -> Vec3:
        a, b, c = (high - low for low, high in zip(self.lower, self.upper, strict=True))
        return a, b, c

    @property
    def scale(self) -> float:
        """Normalised length per world length: the box's longest side measures 2, and density is per normalised length."""
        return 2.0 / max(self.size)

    def to_unit(self, positions: Tensor) -> Tensor:
        """World positions [..., 3] to unit coordinates; outside a bounded box they fall outside [0, 1]."""
        return to_unit(positions, self.lower, self.upper, self.unbounded)

    def shrinking(self, unit: Tensor) -> Tensor:
        """What lengths across are multiplied by in unbounded space at unit coordinates [N, 3]: 1 in the box, 0 at infinity, [N]."""
        return 2.0 - (4.0 * unit - 2.0).abs().amax(-1).clamp_min(1.0)  # 2 - contracted norm = 1 / norm

    def from_unit(self, unit: Tensor) -> Tensor:
        """Inverse of :meth:`to_unit`; the faces of an unbounded space map to infinity."""
        lower = torch.tensor(self.lower, dtype=unit.dtype, device=unit.device)
        size = torch.tensor(self.size, dtype=unit.dtype, device=unit.device)
        if self.unbounded:
            x = 4.0 * unit - 2.0
            norm = x.abs().amax(-1, keepdim=True).clamp_min(1.0)
            x = x / (norm * (2.0 - norm))
            unit = 0.5 * (x + 1.0)
        return lower + unit * size

    def contains(self, positions: Tensor) -> Tensor:
        """Whether each position [..., 3] can hold matter, bool [...]; NaN is outside."""
        return inside_unit(self.to_unit(positions))
