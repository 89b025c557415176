"""What TensoRF's two families share: products of planes and lines on tiles, their gradients, the appearance basis.

Factors are channel-last, so that one vector holds 16 channels of a vertex.  A *column* is
such a block of 16 channels (the last one of a row may be narrower).
"""

from __future__ import annotations

import numpy as np

from .jit import TILE, device
from .simd import outer_add
from .vec16 import add16, fma16, load16, mul16, splat16, store16, sum16, turn

_F0, _F1 = np.float32(0.0), np.float32(1.0)

HAND = 16
"""Rows of a tile that these families hand over and store: the raw log density and 15 features."""
GROUP = 8
"""Samples whose products are projected on the basis together."""


@device
def axis_cells(size, unit, uoff, rows, roff, fractions, foff):  # type: ignore[no-untyped-def]
    """Cell (int32) and fraction of 64 coordinates in [0, 1] on ``size`` vertices; the upper end belongs to the last cell."""
    scale, top = np.float32(size - 1), np.int32(max(size - 2, 0))
    for s in range(TILE):
        u = unit[uoff + s] * scale
        i = min(np.int32(u), top)
        rows[roff + s] = i
        fractions[foff + s] = u - np.float32(i)


@device
def mode_cells(sizes, mode, unit, uoff, rows, roff, work, woff):  # type: ignore[no-untyped-def]
    """rows [3, 64]: vertex of the mode's plane, of its line, scratch; work [3, 64]: fractions along plane axes a, b and line axis c."""
    a, b, c = (0, 1, 2) if mode == 0 else ((0, 2, 1) if mode == 1 else (1, 2, 0))
    size_a = np.int32(sizes[3 * mode])
    axis_cells(sizes[3 * mode], unit, uoff + a * TILE, rows, roff, work, woff)
    axis_cells(sizes[3 * mode + 1], unit, uoff + b * TILE, rows, roff + 2 * TILE, work, woff + TILE)
    axis_cells(sizes[3 * mode + 2], unit, uoff + c * TILE, rows, roff + TILE, work, woff + 2 * TILE)
    for s in range(TILE):
        rows[roff + s] += size_a * rows[roff + 2 * TILE + s]


@device
def _corners(work, at):  # type: ignore[no-untyped-def]
    """Bilinear weights of the vertices (0, 0), (1, 0), (0, 1), (1, 1)."""
    a, b = work[at], work[at + TILE]
    w11 = a * b
    w10, w01 = a - w11, b - w11
    return _F1 - a - w01, w10, w01, w11


@device
def _steps(sizes, mode, channels):  # type: ignore[no-untyped-def]
    """Distance in memory to the next vertex along a plane's a and b, and along the line; 0 where there is none."""
    right = channels if sizes[3 * mode] > 1 else 0
    down = channels * sizes[3 * mode] if sizes[3 * mode + 1] > 1 else 0
    return right, down, channels if sizes[3 * mode + 2] > 1 else 0


@device
def _plane(plane, at, right, down, lanes, w00, w10, w01, w11):  # type: ignore[no-untyped-def]
    low = fma16(splat16(w10), load16(plane, at + right, lanes), mul16(splat16(w00), load16(plane, at, lanes)))
    high = fma16(splat16(w11), load16(plane, at + right + down, lanes), mul16(splat16(w01), load16(plane, at + down, lanes)))
    return add16(low, high)


@device
def line_value(line, at, step, lanes, fraction):  # type: ignore[no-untyped-def]
    """16 channels of a line between two vertices."""
    return fma16(splat16(fraction), load16(line, at + step, lanes), mul16(splat16(_F1 - fraction), load16(line, at, lanes)))


@device
def _add_at(array, at, lanes, value, weight):  # type: ignore[no-untyped-def]
    store16(array, at, lanes, fma16(splat16(weight), value, load16(array, at, lanes)))


@device
def add_line(gradient, at, step, lanes, fraction, value):  # type: ignore[no-untyped-def]
    """The transpose of :func:`line_value`."""
    _add_at(gradient, at, lanes, value, _F1 - fraction)
    _add_at(gradient, at + step, lanes, value, fraction)


@device
def mode_products(plane, line, sizes, mode, channels, rows, roff, work, woff, first, last, out, ooff, stride, whole):  # type: ignore[no-untyped-def]
    """Products of samples first..last of a tile into out[ooff + (s - first) * stride + channel]; ``whole`` pads with zeros to columns."""
    right, down, step = _steps(sizes, mode, channels)
    for s in range(first, last):
        p, l = np.int64(rows[roff + s]) * channels, np.int64(rows[roff + TILE + s]) * channels
        w00, w10, w01, w11 = _corners(work, woff + s)
        f = work[woff + 2 * TILE + s]
        to = ooff + (s - first) * stride
        for c in range(0, channels, 16):
            n = channels - c
            value = mul16(_plane(plane, p + c, right, down, n, w00, w10, w01, w11), line_value(line, l + c, step, n, f))
            store16(out, to + c, 16 if whole else n, value)


@device
def mode_sum(plane, line, sizes, mode, channels, rows, roff, work, woff, out, ooff):  # type: ignore[no-untyped-def]
    """Adds the sum of each sample's products to out [64]."""
    right, down, step = _steps(sizes, mode, channels)
    for s in range(TILE):
        p, l = np.int64(rows[roff + s]) * channels, np.int64(rows[roff + TILE + s]) * channels
        w00, w10, w01, w11 = _corners(work, woff + s)
        f = work[woff + 2 * TILE + s]
        total = splat16(_F0)
        for c in range(0, channels, 16):
            n = channels - c
            total = fma16(_plane(plane, p + c, right, down, n, w00, w10, w01, w11), line_value(line, l + c, step, n, f), total)
        out[ooff + s] += sum16(total)


@device
def mode_scatter(plane, line, gplane, gline, sizes, mode, channels, c, rows, roff, work, woff, d, doff, stride, count, out, ooff, keep):  # type: ignore[no-untyped-def]
    """Adds the gradients of one column of a mode; d[doff + s * stride + channel - c] is that of the products.

    With ``keep`` the products themselves go to out [64, 16].
    """
    right, down, step = _steps(sizes, mode, channels)
    n = channels - c
    for s in range(count):
        p, l = np.int64(rows[roff + s]) * channels + c, np.int64(rows[roff + TILE + s]) * channels + c
        w00, w10, w01, w11 = _corners(work, woff + s)
        f = work[woff + 2 * TILE + s]
        slope = load16(d, doff + s * stride, n)
        on_line = line_value(line, l, step, n, f)
        on_plane = _plane(plane, p, right, down, n, w00, w10, w01, w11)
        if keep:
            store16(out, ooff + s * 16, 16, mul16(on_plane, on_line))
        add_line(gline, l, step, n, f, mul16(slope, on_plane))
        value = mul16(slope, on_line)
        _add_at(gplane, p, n, value, w00)
        _add_at(gplane, p + right, n, value, w10)
        _add_at(gplane, p + down, n, value, w01)
        _add_at(gplane, p + right + down, n, value, w11)


@device
def project(products, poff, width, basis, out, ooff):  # type: ignore[no-untyped-def]
    """out [8, 16] = products [8, width] x basis [width, 16]."""
    a0, a1, a2, a3 = splat16(_F0), splat16(_F0), splat16(_F0), splat16(_F0)
    a4, a5, a6, a7 = splat16(_F0), splat16(_F0), splat16(_F0), splat16(_F0)
    for c in range(width):
        b = load16(basis, c * 16, 16)
        at = poff + c
        a0 = fma16(splat16(products[at]), b, a0)
        a1 = fma16(splat16(products[at + width]), b, a1)
        a2 = fma16(splat16(products[at + 2 * width]), b, a2)
        a3 = fma16(splat16(products[at + 3 * width]), b, a3)
        a4 = fma16(splat16(products[at + 4 * width]), b, a4)
        a5 = fma16(splat16(products[at + 5 * width]), b, a5)
        a6 = fma16(splat16(products[at + 6 * width]), b, a6)
        a7 = fma16(splat16(products[at + 7 * width]), b, a7)
    store16(out, ooff, 16, a0)
    store16(out, ooff + 16, 16, a1)
    store16(out, ooff + 32, 16, a2)
    store16(out, ooff + 48, 16, a3)
    store16(out, ooff + 64, 16, a4)
    store16(out, ooff + 80, 16, a5)
    store16(out, ooff + 96, 16, a6)
    store16(out, ooff + 112, 16, a7)


@device
def hand_features(work, at, x, xoff):  # type: ignore[no-untyped-def]
    """Features in work [64, 16] (from column 1 on) into rows 1..15 of x."""
    for first in range(0, TILE, 16):
        turn(work, at + first * 16, 16, work, at + first * 16, 16)
        for row in range(1, HAND):
            store16(x, xoff + row * TILE + first, 16, load16(work, at + (first + row) * 16, 16))


@device
def product_slopes(basis, width, column, lanes, dx, dxoff, out, ooff):  # type: ignore[no-untyped-def]
    """out [64, 16]: gradients of one column of colour products, from those of the features in rows 1..15 of dx."""
    for s in range(0, TILE, 4):
        at = dxoff + s
        a0, a1, a2, a3 = splat16(_F0), splat16(_F0), splat16(_F0), splat16(_F0)
        for f in range(HAND - 1):
            b = load16(basis, f * width + column, lanes)
            at += TILE
            a0 = fma16(splat16(dx[at]), b, a0)
            a1 = fma16(splat16(dx[at + 1]), b, a1)
            a2 = fma16(splat16(dx[at + 2]), b, a2)
            a3 = fma16(splat16(dx[at + 3]), b, a3)
        store16(out, ooff + s * 16, 16, a0)
        store16(out, ooff + s * 16 + 16, 16, a1)
        store16(out, ooff + s * 16 + 32, 16, a2)
        store16(out, ooff + s * 16 + 48, 16, a3)


@device
def density_slopes(dx, dxoff, out, ooff):  # type: ignore[no-untyped-def]
    """out [64, 16]: the gradient of the raw log density, that of every density product."""
    for s in range(TILE):
        store16(out, ooff + s * 16, 16, splat16(dx[dxoff + s]))


@device
def basis_gradient(dx, dxoff, products, poff, count, gradient, width, column, lanes, scratch, at):  # type: ignore[no-untyped-def]
    """Adds the gradient of one column of the basis [15, width]; products [64, 16], scratch of 256 numbers."""
    zero = splat16(_F0)
    for s in range(count, TILE):
        store16(products, poff + s * 16, 16, zero)
    for row in range(HAND):
        store16(scratch, at + row * 16, 16, zero)
    outer_add(dx, dxoff, products, poff, scratch, at, HAND, 16)
    for f in range(HAND - 1):
        to = f * width + column
        store16(gradient, to, lanes, add16(load16(gradient, to, lanes), load16(scratch, at + (f + 1) * 16, 16)))
