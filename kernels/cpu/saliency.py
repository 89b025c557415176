"""A grid behind HollowNeRF's saliency gate: see :mod:`..reference_saliency`, the definition.

x holds the gated features and, in one row more, the saliency itself, 0 in pruned cells.  The backward pass leaves
in those rows the gradients of the features before the gate and of the interpolated logit, so that the table's share
is scattered as any grid's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from ..lowered import Lowered
from ..reference_saliency import CUT, SHARPNESS
from .fields import (
    NOTHING,
    encode_tile,
    gate_tile,
    gated_family,
    handover_backward,
    handover_family,
    handover_tile,
    is_family,
    scatter_tile,
)
from .grid import encode_grid, scatter_grid
from .jit import OVERLOAD, TILE, device
from .maths import exp32, sigmoid32
from .mlp import mlp_backward, mlp_forward
from .plan import CHECKS, PLANNERS, Hollow, Plan, check_grid, flat, plan_grid

_F0, _F1, _TWO, _THIRD = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(1.0 / 3.0)
_CUT, _SHARP = np.float32(CUT), np.float32(SHARPNESS)
_SMALLEST = np.float32(1e-24)
_OPEN, _LINEAR = np.float32(9.0), np.float32(0.02)
_FELT = np.float32(9.0 / SHARPNESS)
_EMPTY = np.float32(10.0) * NOTHING


class HollowField(NamedTuple):
    table: np.ndarray  # [rows * F] float32
    features: int
    resolutions: np.ndarray  # [L] int64
    offsets: np.ndarray  # [L + 1] int64
    kinds: np.ndarray  # [L] int64
    weights: np.ndarray  # packed density and colour networks
    density_widths: np.ndarray
    color_at: int
    color_widths: np.ndarray
    logits: np.ndarray  # [S^3] float32
    side: int


handover_family(HollowField)
gated_family(HollowField)


@device
def place(side, unit, at):  # type: ignore[no-untyped-def]
    """First corner of the saliency cell of a sample, and where in it the sample lies."""
    scale, last = np.float32(side - 1), np.int64(side - 2)
    x, y, z = unit[at] * scale, unit[at + TILE] * scale, unit[at + 2 * TILE] * scale
    i, j, k = min(np.int64(x), last), min(np.int64(y), last), min(np.int64(z), last)
    return (i * side + j) * side + k, x - np.float32(i), y - np.float32(j), z - np.float32(k)


@device
def corner_weight(corner, x, y, z):  # type: ignore[no-untyped-def]
    a = x if corner & 1 else _F1 - x
    b = y if corner & 2 else _F1 - y
    return a * b * (z if corner & 4 else _F1 - z)


@device
def corner_step(corner, side):  # type: ignore[no-untyped-def]
    return ((corner & 1) * side + (corner >> 1 & 1)) * side + (corner >> 2)


@device
def saliency_tile(logits, side, unit, uoff, out, off):  # type: ignore[no-untyped-def]
    """Saliency [64] of a tile, 0 in pruned cells. Returns how many samples are in others."""
    live = 0
    for s in range(TILE):
        first, x, y, z = place(side, unit, uoff + s)
        total, highest = _F0, logits[first]
        for corner in range(8):
            value = logits[first + corner_step(corner, side)]
            total += corner_weight(corner, x, y, z) * value
            highest = max(highest, value)
        if highest > _CUT:
            out[off + s] = sigmoid32(total)
            live += 1
        else:
            out[off + s] = _F0
    return live


@device
def felt(x, at, rows):  # type: ignore[no-untyped-def]
    """Whether a sample's features are surely so large that the zero-skipping gate is wide open: the first few tell, as a rule."""
    row = 0
    while row < rows and abs(x[at + row * TILE]) <= _FELT:
        row += 1
    return row < rows


@device
def norm_at(x, at, rows):  # type: ignore[no-untyped-def]
    total = _SMALLEST
    for row in range(rows):
        v = x[at + row * TILE]
        total += v * v
    return np.sqrt(total)


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HollowField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        width, gate = field.resolutions.shape[0] * field.features, xoff + field.density_widths[0] * TILE
        if saliency_tile(field.logits, field.side, unit, uoff, x, gate) == 0:
            for i in range(width * TILE):
                x[xoff + i] = _F0
            return
        encode_grid(field.table, field.features, field.resolutions, field.offsets, field.kinds, unit, uoff, x, xoff, rows, work)
        for row in range(width):
            for s in range(TILE):
                x[xoff + row * TILE + s] *= x[gate + s]

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, HollowField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        mlp_forward(field.weights, 0, field.density_widths, x, xoff, h, hoff, acts, aoff)
        width, gate = field.resolutions.shape[0] * field.features, xoff + field.density_widths[0] * TILE
        for s in range(TILE):
            if x[gate + s] == _F0:
                h[hoff + s] = _EMPTY
                continue
            if felt(x, xoff + s, width):
                continue
            sharp = _SHARP * norm_at(x, xoff + s, width)
            if sharp < _LINEAR:
                h[hoff + s] += np.log(sharp) - _THIRD * sharp * sharp
            elif sharp < _OPEN:
                e = exp32(-_TWO * sharp)
                h[hoff + s] += np.log((_F1 - e) / (_F1 + e))

    return compiled


@overload(gate_tile, **OVERLOAD)
def _gate_tile(field, h, hoff, inside):  # type: ignore[no-untyped-def]
    if not is_family(field, HollowField):
        return None

    def compiled(field, h, hoff, inside):  # type: ignore[no-untyped-def]
        for s in range(TILE):
            if h[hoff + s] < NOTHING:
                inside[s] = _F0
                h[hoff + s] = _F0

    return compiled


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, HollowField):
        return None

    def compiled(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        mlp_backward(field.weights, 0, field.density_widths, x, xoff, dh, dhoff, dx, dxoff, 0, acts, aoff, g, 0, work, wkoff)
        width, gate = field.resolutions.shape[0] * field.features, field.density_widths[0] * TILE
        for s in range(TILE):
            if x[xoff + gate + s] == _F0 or felt(x, xoff + s, width):
                continue
            norm = norm_at(x, xoff + s, width)
            sharp = _SHARP * norm
            slope = _F0
            if sharp < _LINEAR:
                slope = dh[dhoff + s] * (_F1 / (norm * norm) - _TWO * _THIRD * _SHARP * _SHARP)
            elif sharp < _OPEN:
                e = exp32(-_TWO * sharp)
                t = (_F1 - e) / (_F1 + e)
                slope = dh[dhoff + s] * _SHARP * (_F1 - t * t) / (t * norm)
            for row in range(width):
                dx[dxoff + row * TILE + s] += slope * x[xoff + row * TILE + s]
        for s in range(TILE):
            dx[dxoff + gate + s] = _F0
        for row in range(width):
            for s in range(TILE):
                d = dx[dxoff + row * TILE + s]
                dx[dxoff + gate + s] += d * x[xoff + row * TILE + s]
                dx[dxoff + row * TILE + s] = d * x[xoff + gate + s]
        for s in range(TILE):
            dx[dxoff + gate + s] *= _F1 - x[xoff + gate + s]

    return compiled


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HollowField):
        return None

    def compiled(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        if part + 1 < parts:
            scatter_grid(
                grads[0], field.features, field.resolutions, field.offsets, field.kinds, part, unit, uoff, dx, dxoff, count, rows, work
            )
            return
        grad, gate = grads[1], dxoff + field.density_widths[0] * TILE
        for s in range(count):
            d = dx[gate + s]
            if d != _F0:
                first, x, y, z = place(field.side, unit, uoff + s)
                for corner in range(8):
                    grad[first + corner_step(corner, field.side)] += corner_weight(corner, x, y, z) * d

    return compiled


def plan_hollow(lowered: Lowered, encoding: Any) -> Plan:
    plan, saliency = plan_grid(lowered, encoding), lowered.saliency
    assert saliency is not None
    plan.field = HollowField(**plan.field._asdict(), logits=flat(saliency), side=saliency.shape[0])
    width = plan.shape.encoded + 1
    plan.shape = plan.shape._replace(encoded=width, first_x=width)
    plan.tables.append(saliency)
    plan.parts += 1
    return plan


def check_hollow(lowered: Lowered) -> str | None:
    saliency = lowered.saliency
    assert saliency is not None
    if saliency.dim() != 3 or len(set(saliency.shape)) != 1 or saliency.shape[0] < 2:
        return "a saliency grid that is not a cube of at least two vertices has no compiled kernel"
    return check_grid(lowered)


PLANNERS[Hollow] = plan_hollow
CHECKS[Hollow] = check_hollow
