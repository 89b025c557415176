"""Elementary functions that the vectoriser can put into loops."""

from __future__ import annotations

import numpy as np

from .jit import device
from .simd import float_bits

F0, F1, HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
_LOG2E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOW, _HIGH = np.float32(-87.3), np.float32(88.3)
_C1, _C2, _C3 = np.float32(1.0 / 6.0), np.float32(1.0 / 24.0), np.float32(1.0 / 120.0)
_C4, _C5 = np.float32(1.0 / 720.0), np.float32(1.0 / 5040.0)
_TINY = np.float32(0.06)
_MAGIC = np.float32(12582912.0)
_S30, _S15 = np.float32(30.0), np.float32(15.0)


@device
def exp32(x):  # type: ignore[no-untyped-def]
    """exp of a float32 to 2 units in the last place, saturating at the ends of the float range; NaN counts as very negative."""
    x = x if x > _LOW else _LOW
    x = x if x < _HIGH else _HIGH
    n = np.int32(x * _LOG2E + (HALF if x >= F0 else -HALF))
    f = np.float32(n)
    r = x - f * _LN2_HIGH - f * _LN2_LOW
    p = F1 + r * (F1 + r * (HALF + r * (_C1 + r * (_C2 + r * (_C3 + r * (_C4 + r * _C5))))))
    return p * float_bits(np.int32((n + np.int32(127)) << np.int32(23)))


@device
def density32(s):  # type: ignore[no-untyped-def]
    """exp(s) with s capped at 30."""
    return exp32(s if s < _S30 else _S30)


@device
def density_slope(s):  # type: ignore[no-untyped-def]
    """The truncated exponential's gradient, exp(clamp(s, -15, 15))."""
    s = s if s < _S15 else _S15
    return exp32(s if s > -_S15 else -_S15)


@device
def sigmoid32(x):  # type: ignore[no-untyped-def]
    return F1 / (F1 + exp32(-x))


@device
def opacity32(x, kept):  # type: ignore[no-untyped-def]
    """1 - exp(-x) without cancellation, given kept = exp(-x)."""
    small = x * (F1 - x * (HALF - x * (_C1 - x * (_C2 - x * _C3))))
    return small if x < _TINY else F1 - kept


@device
def sh16(x, y, z, out, offset, stride):  # type: ignore[no-untyped-def]
    """Spherical harmonics of degree 4 (16 values) in instant-ngp's order and signs, written to out[offset + i * stride]."""
    xx, yy, zz = x * x, y * y, z * z
    out[offset] = np.float32(0.28209479177387814)
    out[offset + stride] = np.float32(-0.48860251190291987) * y
    out[offset + 2 * stride] = np.float32(0.48860251190291987) * z
    out[offset + 3 * stride] = np.float32(-0.48860251190291987) * x
    out[offset + 4 * stride] = np.float32(1.0925484305920792) * x * y
    out[offset + 5 * stride] = np.float32(-1.0925484305920792) * y * z
    out[offset + 6 * stride] = np.float32(0.94617469575755997) * zz - np.float32(0.31539156525251999)
    out[offset + 7 * stride] = np.float32(-1.0925484305920792) * x * z
    out[offset + 8 * stride] = np.float32(0.54627421529603959) * (xx - yy)
    out[offset + 9 * stride] = np.float32(0.59004358992664352) * y * (yy - np.float32(3.0) * xx)
    out[offset + 10 * stride] = np.float32(2.8906114426405538) * x * y * z
    out[offset + 11 * stride] = np.float32(0.45704579946446572) * y * (F1 - np.float32(5.0) * zz)
    out[offset + 12 * stride] = np.float32(0.3731763325901154) * z * (np.float32(5.0) * zz - np.float32(3.0))
    out[offset + 13 * stride] = np.float32(0.45704579946446572) * x * (F1 - np.float32(5.0) * zz)
    out[offset + 14 * stride] = np.float32(1.4453057213202769) * z * (xx - yy)
    out[offset + 15 * stride] = np.float32(0.59004358992664352) * x * (np.float32(3.0) * yy - xx)
