"""Summed areas (Crow 1984): how much of any rectangle of a mask is covered, in four look-ups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def summed_areas(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[H + 1, W + 1] of a mask [H, W]: how many pixels above and left of a corner are true."""
    areas = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    areas[1:, 1:] = mask.cumsum(0).cumsum(1)
    return areas


def covered(
    areas: NDArray[np.int64], x0: NDArray[np.int64], y0: NDArray[np.int64], x1: NDArray[np.int64], y1: NDArray[np.int64]
) -> NDArray[np.int64]:
    """True pixels [N] in rectangles from corners (x0, y0) up to, not including, pixels (x1, y1), all within the picture."""
    found: NDArray[np.int64] = areas[y1, x1] - areas[y0, x1] - areas[y1, x0] + areas[y0, x0]
    return found
