"""The multi-resolution grid (Instant-NGP, section 3) with its density network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from ..lowered import DENSE, HASHED
from .fields import encode_tile, handover_backward, handover_family, handover_tile, is_family, scatter_tile
from .jit import OVERLOAD, TILE, device
from .mlp import mlp_backward, mlp_forward
from .rows import WIDTH, gather4, scatter4
from .simd import prefetch

_Y, _Z = np.uint32(2654435761), np.uint32(805459861)
_F1 = np.float32(1.0)
_U1 = np.uint32(1)


class GridField(NamedTuple):
    table: np.ndarray  # [rows * F] float32
    features: int
    resolutions: np.ndarray  # [L] int64
    offsets: np.ndarray  # [L + 1] int64
    kinds: np.ndarray  # [L] int64
    weights: np.ndarray  # packed density and colour networks
    density_widths: np.ndarray
    color_at: int
    color_widths: np.ndarray


handover_family(GridField)


@device
def level_corners(resolution, kind, start, size, unit, uoff, rows, weights):  # type: ignore[no-untyped-def]
    """For a tile of positions, the rows [8, 64] of the surrounding vertices and their trilinear weights [8, 64] (flat)."""
    scale = np.float32(resolution)
    last = np.int32(resolution - 1)
    side = np.uint32(resolution + 1)
    base = np.uint32(start)
    for s in range(TILE):
        x, y, z = unit[uoff + s] * scale, unit[uoff + TILE + s] * scale, unit[uoff + 2 * TILE + s] * scale
        i, j, k = min(np.int32(x), last), min(np.int32(y), last), min(np.int32(z), last)
        x, y, z = x - np.float32(i), y - np.float32(j), z - np.float32(k)
        x1, y1, z1 = _F1 - x, _F1 - y, _F1 - z
        a, b, c, d = y1 * z1, y * z1, y1 * z, y * z
        weights[s], weights[TILE + s] = x1 * a, x * a
        weights[2 * TILE + s], weights[3 * TILE + s] = x1 * b, x * b
        weights[4 * TILE + s], weights[5 * TILE + s] = x1 * c, x * c
        weights[6 * TILE + s], weights[7 * TILE + s] = x1 * d, x * d
        rows[s], rows[TILE + s], rows[2 * TILE + s] = i, j, k
    if kind == HASHED:
        mask = np.uint32(size - 1)
        for s in range(TILE):
            i, j, k = np.uint32(rows[s]), np.uint32(rows[TILE + s]) * _Y, np.uint32(rows[2 * TILE + s]) * _Z
            i1, j1, k1 = i + _U1, j + _Y, k + _Z
            a, b, c, d = j ^ k, j1 ^ k, j ^ k1, j1 ^ k1
            rows[s], rows[TILE + s] = np.int32(((i ^ a) & mask) + base), np.int32(((i1 ^ a) & mask) + base)
            rows[2 * TILE + s], rows[3 * TILE + s] = np.int32(((i ^ b) & mask) + base), np.int32(((i1 ^ b) & mask) + base)
            rows[4 * TILE + s], rows[5 * TILE + s] = np.int32(((i ^ c) & mask) + base), np.int32(((i1 ^ c) & mask) + base)
            rows[6 * TILE + s], rows[7 * TILE + s] = np.int32(((i ^ d) & mask) + base), np.int32(((i1 ^ d) & mask) + base)
        return
    layer = side * side
    for s in range(TILE):
        a = np.uint32(rows[s]) + side * np.uint32(rows[TILE + s]) + layer * np.uint32(rows[2 * TILE + s])
        b, c = a + side, a + layer
        d = c + side
        rows[s], rows[TILE + s] = np.int32(a), np.int32(a + _U1)
        rows[2 * TILE + s], rows[3 * TILE + s] = np.int32(b), np.int32(b + _U1)
        rows[4 * TILE + s], rows[5 * TILE + s] = np.int32(c), np.int32(c + _U1)
        rows[6 * TILE + s], rows[7 * TILE + s] = np.int32(d), np.int32(d + _U1)
    if kind == DENSE:
        for s in range(8 * TILE):
            rows[s] += np.int32(base)
    else:
        # A tiled level may have more vertices than 2^32: the wrap-around above would differ from the definition.
        count = np.int64(size)
        for s in range(TILE):
            x, y, z = unit[uoff + s] * scale, unit[uoff + TILE + s] * scale, unit[uoff + 2 * TILE + s] * scale
            i, j, k = min(np.int64(x), np.int64(last)), min(np.int64(y), np.int64(last)), min(np.int64(z), np.int64(last))
            for corner in range(8):
                u, v, w = i + (corner & 1), j + (corner >> 1 & 1), k + (corner >> 2)
                rows[corner * TILE + s] = np.int32((u + np.int64(side) * (v + np.int64(side) * w)) % count + np.int64(start))


@device
def gather_level(table, features, rows, weights, x, xoff):  # type: ignore[no-untyped-def]
    """x [F, 64] = weighted sum of the table rows at the 8 corners."""
    if features == WIDTH:
        for s in range(0, TILE, WIDTH):
            gather4(table, rows, weights, s, x, xoff)
    elif features == 2:
        for s in range(TILE):
            a, b = np.float32(0.0), np.float32(0.0)
            for corner in range(8):
                at = np.int64(rows[corner * TILE + s]) * 2
                w = weights[corner * TILE + s]
                a += w * table[at]
                b += w * table[at + 1]
            x[xoff + s], x[xoff + TILE + s] = a, b
    else:
        for s in range(TILE):
            for f in range(features):
                a = np.float32(0.0)
                for corner in range(8):
                    a += weights[corner * TILE + s] * table[np.int64(rows[corner * TILE + s]) * features + f]
                x[xoff + f * TILE + s] = a


@device
def scatter_level(grad, features, rows, weights, dx, dxoff, count):  # type: ignore[no-untyped-def]
    """The transpose of :func:`gather_level`, in the order of the samples."""
    if features == WIDTH:
        for s in range(count):
            scatter4(grad, rows, weights, s, dx, dxoff)
    else:
        for s in range(count):
            for corner in range(8):
                at = np.int64(rows[corner * TILE + s]) * features
                w = weights[corner * TILE + s]
                for f in range(features):
                    grad[at + f] += w * dx[dxoff + f * TILE + s]


@device
def encode_grid(table, features, resolutions, offsets, kinds, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    for level in range(resolutions.shape[0]):
        start, size = offsets[level], offsets[level + 1] - offsets[level]
        level_corners(resolutions[level], kinds[level], start, size, unit, uoff, rows, work)
        if size * features > 65536:  # beyond the second-level cache: have the lines on their way before the first is needed
            for i in range(8 * TILE):
                prefetch(table, np.int64(rows[i]) * features)
        gather_level(table, features, rows, work, x, xoff + level * features * TILE)


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, GridField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        encode_grid(field.table, field.features, field.resolutions, field.offsets, field.kinds, unit, uoff, x, xoff, rows, work)

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, GridField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        mlp_forward(field.weights, 0, field.density_widths, x, xoff, h, hoff, acts, aoff)

    return compiled


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, GridField):
        return None

    def compiled(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        mlp_backward(field.weights, 0, field.density_widths, x, xoff, dh, dhoff, dx, dxoff, 0, acts, aoff, g, 0, work, wkoff)

    return compiled


@device
def scatter_grid(grad, features, resolutions, offsets, kinds, level, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    start, size = offsets[level], offsets[level + 1] - offsets[level]
    level_corners(resolutions[level], kinds[level], start, size, unit, uoff, rows, work)
    if size * features > 65536:
        for i in range(8 * TILE):
            prefetch(grad, np.int64(rows[i]) * features)
    scatter_level(grad, features, rows, work, dx, dxoff + level * features * TILE, count)


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, GridField):
        return None

    def compiled(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        scatter_grid(
            grads[0], field.features, field.resolutions, field.offsets, field.kinds, part, unit, uoff, dx, dxoff, count, rows, work
        )

    return compiled
