"""Small functions that kernels call."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(a, b, HALF: tl.constexpr):
    """a [M, K] @ b [K, N] with float32 sums, on tensor cores where HALF."""
    if HALF:
        c = tl.dot(a.to(tl.float16), b.to(tl.float16))
    else:
        c = tl.dot(a, b, input_precision="ieee")
    return c


@triton.jit
def scaled(gradient, HALF: tl.constexpr):
    """A gradient block times the power of two that brings its largest number near 64, as factors of a product, and the inverse.

    Gradients of a mean over a large batch lie below what float16 can hold.
    """
    if HALF:
        largest = tl.max(tl.max(tl.abs(gradient), 1), 0)
        up = tl.exp2(tl.floor(6.0 - tl.log2(tl.minimum(tl.maximum(largest, 1e-30), 1e30))))
        factor = (gradient * up).to(tl.float16)
        down = 1.0 / up
    else:
        factor = gradient
        down = 1.0
    return factor, down


@triton.jit
def weight(pointer, ROWS: tl.constexpr, COLUMNS: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """A [ROWS, COLUMNS] matrix as a [R, C] block, zeros around it."""
    r = tl.arange(0, R)[:, None]
    c = tl.arange(0, C)[None, :]
    return tl.load(pointer + r * COLUMNS + c, mask=(r < ROWS) & (c < COLUMNS), other=0.0)


@triton.jit
def add_weight(pointer, block, ROWS: tl.constexpr, COLUMNS: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """Adds the [ROWS, COLUMNS] part of a [R, C] block to a matrix."""
    r = tl.arange(0, R)[:, None]
    c = tl.arange(0, C)[None, :]
    tl.atomic_add(pointer + r * COLUMNS + c, block, mask=(r < ROWS) & (c < COLUMNS), sem="relaxed")


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def truncated_exp(x):
    return tl.exp(tl.minimum(x, 30.0))


@triton.jit
def sh16(x, y, z, B: tl.constexpr):
    """Real spherical harmonics of degree 4 at unit directions [B] -> [B, 16]; see ``reference.spherical_harmonics``."""
    xx, yy, zz = x * x, y * y, z * z
    s0 = x * 0.0 + 0.28209479177387814
    s1, s2, s3 = -0.48860251190291987 * y, 0.48860251190291987 * z, -0.48860251190291987 * x
    s4, s5 = 1.0925484305920792 * x * y, -1.0925484305920792 * y * z
    s6 = 0.94617469575755997 * zz - 0.31539156525251999
    s7, s8 = -1.0925484305920792 * x * z, 0.54627421529603959 * (xx - yy)
    s9, s10 = 0.59004358992664352 * y * (yy - 3.0 * xx), 2.8906114426405538 * x * y * z
    s11, s12 = 0.45704579946446572 * y * (1.0 - 5.0 * zz), 0.3731763325901154 * z * (5.0 * zz - 3.0)
    s13, s14 = 0.45704579946446572 * x * (1.0 - 5.0 * zz), 1.4453057213202769 * z * (xx - yy)
    s15 = 0.59004358992664352 * x * (3.0 * yy - xx)
    # Joined pairwise: the axis joined first is the highest bit of the index.
    t0, t1, t2, t3 = tl.join(s0, s8), tl.join(s1, s9), tl.join(s2, s10), tl.join(s3, s11)
    t4, t5, t6, t7 = tl.join(s4, s12), tl.join(s5, s13), tl.join(s6, s14), tl.join(s7, s15)
    u0, u1, u2, u3 = tl.join(t0, t4), tl.join(t1, t5), tl.join(t2, t6), tl.join(t3, t7)
    return tl.reshape(tl.join(tl.join(u0, u2), tl.join(u1, u3)), (B, 16))


@triton.jit
def contract(x, y, z):
    """Unit coordinates of the box to those of all space: the contraction of ``reference_march.to_unit``."""
    x, y, z = 2.0 * x - 1.0, 2.0 * y - 1.0, 2.0 * z - 1.0
    norm = tl.maximum(tl.maximum(tl.abs(x), tl.maximum(tl.abs(y), tl.abs(z))), 1.0)
    factor = tl.div_rn(2.0 - tl.div_rn(1.0, norm), norm)
    return (factor * x + 2.0) * 0.25, (factor * y + 2.0) * 0.25, (factor * z + 2.0) * 0.25


@triton.jit
def to_unit(x, y, z, box, UNBOUNDED: tl.constexpr):
    """World to unit coordinates; ``box`` points to lower and size, six numbers."""
    x = tl.div_rn(x - tl.load(box), tl.load(box + 3))
    y = tl.div_rn(y - tl.load(box + 1), tl.load(box + 4))
    z = tl.div_rn(z - tl.load(box + 2), tl.load(box + 5))
    if UNBOUNDED:
        x, y, z = contract(x, y, z)
    return x, y, z


@triton.jit
def inside_unit(x, y, z):
    return (x >= 0.0) & (x <= 1.0) & (y >= 0.0) & (y <= 1.0) & (z >= 0.0) & (z <= 1.0)


@triton.jit
def clamped(u):
    """Into [0, 1]; not a number becomes 0."""
    return tl.where(u > 0.0, tl.where(u < 1.0, u, 1.0), 0.0)


@triton.jit
def coordinate(unit, at, axis, valid):
    """One clamped coordinate [B] of the rows ``at`` of unit [N, 3]; 0 where not ``valid``."""
    return clamped(tl.load(unit + at * 3 + axis, mask=valid, other=0.0))


@triton.jit
def position(unit, at, valid):
    """All three of :func:`coordinate`."""
    return coordinate(unit, at, 0, valid), coordinate(unit, at, 1, valid), coordinate(unit, at, 2, valid)


@triton.jit
def position_again(unit, at, valid):
    """:func:`position`, read anew: else the compiler keeps all that was computed of the first reading, and spills registers."""
    x = clamped(tl.load(unit + at * 3, mask=valid, other=0.0, volatile=True))
    y = clamped(tl.load(unit + at * 3 + 1, mask=valid, other=0.0, volatile=True))
    z = clamped(tl.load(unit + at * 3 + 2, mask=valid, other=0.0, volatile=True))
    return x, y, z
