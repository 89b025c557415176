"""Lens models: from the ideal direction of a point to where the lens puts it in the picture, and back.

Everything here works in OpenCV camera axes (+X right, +Y down, +Z look) on *normalised*
image coordinates ``x = (pixel_x - cx) / fx``, ``y = (pixel_y - cy) / fy``.
Formulas: OpenCV's calib3d documentation (its polynomial model without the rational
denominator) and its fisheye module; parameter order is nerfstudio's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Model = Literal["opencv", "fisheye"]

PARAMETERS: dict[Model, tuple[str, ...]] = {
    "opencv": ("k1", "k2", "k3", "k4", "p1", "p2"),
    "fisheye": ("k1", "k2", "k3", "k4"),
}
"""Parameter names of each lens model, in the order of :attr:`Distortion.params`."""

ITERATIONS = 60
"""Bound on the Newton iterations; ordinary lenses need four or five."""
BORDER = 1.0 + 1e-9
"""Rounding granted to a point on the border of the invertible region."""


@dataclass(frozen=True)
class Distortion:
    """A lens.

    ``opencv``: k1..k4 multiply r^2, r^4, r^6, r^8 of the radial factor; p1, p2 are tangential.
    ``fisheye``: equidistant, angle' = angle (1 + k1 angle^2 + ... + k4 angle^8); it can see sideways and backwards.
    """

    model: Model
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in PARAMETERS:
            raise ValueError(f"lens model must be one of {', '.join(PARAMETERS)}, got {self.model!r}")
        names = PARAMETERS[self.model]
        if len(self.params) != len(names) or not all(math.isfinite(p) for p in self.params):
            raise ValueError(f"lens model {self.model} needs {len(names)} finite parameters ({', '.join(names)}), got {self.params}")
        object.__setattr__(self, "params", tuple(float(p) for p in self.params))

    @property
    def is_identity(self) -> bool:
        """Whether the lens is a perfect pinhole, which a fisheye never is."""
        return self.model == "opencv" and not any(self.params)

    @cached_property
    def limit(self) -> float:
        """Largest undistorted radius (opencv) or angle (fisheye) up to which the radial map increases; infinity if it always does.

        Beyond it the polynomial folds back and describes no lens; nothing is projected there.
        """
        k = self.params[:4]
        # d/dr [r (1 + k1 r^2 + k2 r^4 + ...)] = 1 + 3 k1 u + 5 k2 u^2 + 7 k3 u^3 + 9 k4 u^4 with u = r^2, solved for 1 / u:
        # that polynomial is monic whatever the coefficients.
        roots = np.roots([1.0, 3.0 * k[0], 5.0 * k[1], 7.0 * k[2], 9.0 * k[3]])
        real = [float(root.real) for root in roots if abs(root.imag) <= 1e-9 * (1.0 + abs(root.real)) and root.real > 1e-12]
        fold = math.sqrt(1.0 / max(real)) if real else math.inf
        return min(fold, math.pi) if self.model == "fisheye" else fold

    def to_image(self, directions: Array) -> Array:
        """Directions [N, 3] (any length, OpenCV camera axes) to normalised image coordinates [N, 2]; NaN where the lens sees nothing."""
        x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.model == "fisheye":
                radius = np.hypot(x, y)
                angle = np.arctan2(radius, z)
                scale = np.where(radius > 0.0, self._radial(angle**2) * angle / radius, 0.0)
                image = np.stack([x * scale, y * scale], -1)
                seen = (angle <= self.limit * BORDER) & ((radius > 0.0) | (z > 0.0))
            else:
                ideal = np.stack([x / z, y / z], -1)
                image = self._distort(ideal)
                seen = (z > 0.0) & (np.hypot(ideal[:, 0], ideal[:, 1]) <= self.limit * BORDER)
        return np.where(seen[:, None], image, np.nan)

    def to_directions(self, image: Array) -> Array:
        """Normalised image coordinates [N, 2] to unit directions [N, 3], OpenCV camera axes.

        Where no direction is drawn at that place (outside the lens's invertible region)
        the nearest one on its border is returned, never NaN.
        """
        if self.model == "fisheye":
            radius = np.hypot(image[:, 0], image[:, 1])
            angle = self._invert_radial(radius)
            scale = np.sin(angle) / np.where(radius > 0.0, radius, 1.0)
            return np.stack([image[:, 0] * scale, image[:, 1] * scale, np.cos(angle)], -1)
        ideal = self._undistort(image)
        directions: Array = np.concatenate([ideal, np.ones_like(ideal[:, :1])], -1)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return directions

    def _radial(self, square: Array) -> Array:
        k1, k2, k3, k4 = self.params[:4]
        return 1.0 + square * (k1 + square * (k2 + square * (k3 + square * k4)))

    def _radial_slope(self, square: Array) -> Array:
        """Derivative of :meth:`_radial` by the squared radius."""
        k1, k2, k3, k4 = self.params[:4]
        return k1 + square * (2.0 * k2 + square * (3.0 * k3 + square * 4.0 * k4))

    def _distort(self, ideal: Array) -> Array:
        p1, p2 = self.params[4:]
        x, y = ideal[:, 0], ideal[:, 1]
        square = x * x + y * y
        radial = self._radial(square)
        return np.stack(
            [x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x), y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y], -1
        )

    def _invert_radial(self, radius: Array) -> Array:
        """The radius or angle in [0, limit] that distorts to ``radius``: Newton inside a shrinking bracket, so it cannot diverge."""
        low = np.zeros_like(radius)
        if math.isfinite(self.limit):
            high = np.full_like(radius, self.limit)
        else:
            high = radius + 1.0
            for _ in range(ITERATIONS):
                short = high * self._radial(high * high) < radius
                if not short.any():
                    break
                high = np.where(short, 2.0 * high, high)
        angle = np.minimum(radius, high)
        for _ in range(ITERATIONS):
            square = angle * angle
            value = angle * self._radial(square) - radius
            low, high = np.where(value < 0.0, angle, low), np.where(value < 0.0, high, angle)
            slope = self._radial(square) + 2.0 * square * self._radial_slope(square)
            step = angle - value / np.where(slope > 1e-12, slope, 1e-12)
            following = np.where((step > low) & (step < high), step, 0.5 * (low + high))
            converged = np.abs(following - angle) <= 1e-15 * (1.0 + angle)
            angle = following
            if converged.all():
                break
        return angle

    def _undistort(self, image: Array) -> Array:
        """Two-dimensional Newton iteration from the radial solution, damped per point and kept inside the invertible disc."""
        p1, p2 = self.params[4:]
        limit = self.limit if math.isfinite(self.limit) else 1e6
        radius = np.linalg.norm(image, axis=-1)
        ideal = image * (self._invert_radial(radius) / np.where(radius > 0.0, radius, 1.0))[:, None]
        if p1 == 0.0 and p2 == 0.0:
            return ideal
        ideal = _clamp_radius(ideal, limit)
        error = self._distort(ideal) - image
        size = np.abs(error).max(-1)
        damping = np.ones_like(size)
        for _ in range(ITERATIONS):
            x, y = ideal[:, 0], ideal[:, 1]
            square = x * x + y * y
            radial, slope = self._radial(square), 2.0 * self._radial_slope(square)
            a = radial + x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x
            b = x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y
            d = radial + y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x
            determinant = a * d - b * b
            usable = np.abs(determinant) > 1e-9
            inverse = np.where(usable, damping / np.where(usable, determinant, 1.0), 0.0)
            step = np.stack([d * error[:, 0] - b * error[:, 1], a * error[:, 1] - b * error[:, 0]], -1) * inverse[:, None]
            candidate = _clamp_radius(ideal - step, limit)
            candidate_error = self._distort(candidate) - image
            candidate_size = np.abs(candidate_error).max(-1)
            better = candidate_size < size
            ideal = np.where(better[:, None], candidate, ideal)
            error = np.where(better[:, None], candidate_error, error)
            size = np.where(better, candidate_size, size)
            damping = np.where(better, np.minimum(1.0, 2.0 * damping), 0.5 * damping)
            if ((size <= 1e-15) | (damping < 1e-4)).all():
                break
        return ideal

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "params": list(self.params)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Distortion:
        return cls(data["model"], tuple(float(p) for p in data["params"]))


def _clamp_radius(points: Array, limit: float) -> Array:
    radius = np.linalg.norm(points, axis=-1, keepdims=True)
    clamped: Array = points * np.minimum(1.0, limit / np.maximum(radius, 1e-300))
    return clamped
