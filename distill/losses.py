"""How far a student is from its teacher, at points and along rays (PVD, section 3.3 and 3.5)."""

from __future__ import annotations

import math

from torch import Tensor

from ..representations.space import Space

LOWEST, HIGHEST = -2.0, 7.0
"""PVD's range of log densities: below it space is as good as empty over a step, above it as good as solid."""
TINY = 1e-12


def clamped(log_density: Tensor) -> Tensor:
    """Log density within PVD's range; the gradient passes straight through, so that what lies outside can come back."""
    return log_density + (log_density.detach().clamp(LOWEST, HIGHEST) - log_density.detach())


def rms(difference: Tensor) -> Tensor:
    """Root mean square, a scalar; PVD's norm of a batch, but the same for batches of every size."""
    return (difference.square().mean() + TINY).sqrt()


def density_shift(teacher: Space, student: Space) -> float:
    """What to add to the teacher's log density, per length of its box, to get it per length of the student's."""
    return math.log(teacher.scale / student.scale)
