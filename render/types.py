"""What goes into the renderer and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Lower and upper corner, world units."""


@dataclass
class Rays:
    """N rays in world units. Directions have unit length."""

    origins: Tensor  # [N, 3] float32
    directions: Tensor  # [N, 3] float32
    near: Tensor | None = None  # [N] closest distance to look at; None: 0 (or where the ray enters the box)
    far: Tensor | None = None  # [N]; None: where the ray leaves the box, or infinity

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Rays:
        return Rays(
            self.origins[index],
            self.directions[index],
            None if self.near is None else self.near[index],
            None if self.far is None else self.far[index],
        )


@dataclass(frozen=True)
class RenderSettings:
    """How to march and composite; the same meaning in every implementation."""

    steps: int = 1024
    """Samples along the diagonal of the field's box: the shortest step is diagonal / steps."""
    cone: float = 1.0 / 256.0
    """Unbounded fields: a step is at least this fraction of the distance, so that far samples thin out."""
    near: float = 0.0
    """Smallest distance from the camera, in normalised lengths (box side 2)."""
    far: float = math.inf
    """Largest distance from the camera, in normalised lengths."""
    crop: Box | None = None
    """Nothing outside this box is seen."""
    termination: float = 1e-4
    """A ray stops once its transmittance falls below this."""
    jitter: bool = False
    """Shift each ray's samples by a random fraction of a step (training); otherwise samples sit at mid-step."""
    background: str = "white"
    """white, black, none (premultiplied colour over nothing), or learned (the field's own ``background``)."""
    normals: bool = False


@dataclass
class Rendering:
    """Per ray; depth is the expected distance along the ray in world units, 0 where nothing was hit."""

    rgb: Tensor  # [N, 3]
    depth: Tensor  # [N]
    opacity: Tensor  # [N] in [0, 1]
    normals: Tensor | None = None  # [N, 3] in world axes, opacity-weighted mean, unit length or zero
    cost: Tensor | None = None  # [N] field evaluations spent
