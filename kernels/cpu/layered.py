"""Edited scenes: layers of other families' fields whose densities add. For pictures only; nothing here is trained.

A tile's x and hand-over are the raw log density and the world positions; ``color_tile`` goes back to the layers from
these.  A layer that no sample of a tile meets costs its conditions alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba.extending import overload, register_jitable

from ..lowered import EMPTY, SPHERE, Affine, LayeredEncoding, Lowered, RegionTest
from .drive import Shape
from .fields import (
    NOTHING,
    appearance_tile,
    color_backward,
    color_tile,
    encode_tile,
    gate_tile,
    gated_family,
    handover_backward,
    handover_tile,
    is_family,
    scatter_tile,
)
from .jit import OVERLOAD, TILE, device
from .lattice import contracted
from .maths import density32, sh16
from .plan import CHECKS, PLANNERS, Plan, encoding_tensors, make_plan, supports

_F0, _F1, _F2, _F4 = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(4.0)
_VOID, _EMPTY = np.float32(-1e30), np.float32(EMPTY)
_HAND = 4
_FAR = np.float32(1e-6)
"""How far from its faces, where infinity is, an unbounded space's unit coordinates are kept."""


class Layers(NamedTuple):
    """Flat tables; a layer's conditions and tints are runs of rows."""

    source: np.ndarray  # [L] int64
    runs: np.ndarray  # [L, 4] int64: first and end of its conditions, of its tints
    matrix: np.ndarray  # [L, 12] scene -> source world
    turn: np.ndarray  # [L, 9] directions, scene -> source
    factor: np.ndarray  # [L]
    condition_shape: np.ndarray  # [C, 2] int64: shape, inside
    condition: np.ndarray  # [C, 12]
    tint_shape: np.ndarray  # [T] int64
    tint_region: np.ndarray  # [T, 12]
    tint: np.ndarray  # [T, 12]


class Source(NamedTuple):
    field: Any
    box: np.ndarray  # [6] lower corner, size
    unbounded: bool
    bits: np.ndarray  # [X, Y, Z] bool


class Places(NamedTuple):
    """Where things lie in one scratch array; the sources' own work comes first."""

    unit: int
    mask: int
    x: int
    h: int
    sh: int
    rgb: int
    acts: int
    rows: int  # length of the int32 scratch


class LayeredField(NamedTuple):
    sources: Any  # a tuple of Source
    layers: Layers
    box: np.ndarray  # [6]
    unbounded: bool
    places: Places


gated_family(LayeredField)


@device
def _affine(table, row, x, y, z):  # type: ignore[no-untyped-def]
    return (
        table[row, 0] * x + table[row, 1] * y + table[row, 2] * z + table[row, 3],
        table[row, 4] * x + table[row, 5] * y + table[row, 6] * z + table[row, 7],
        table[row, 8] * x + table[row, 9] * y + table[row, 10] * z + table[row, 11],
    )


@device
def _inside(shape, table, row, x, y, z):  # type: ignore[no-untyped-def]
    x, y, z = _affine(table, row, x, y, z)
    if shape == SPHERE:
        return x * x + y * y + z * z <= _F1
    return max(abs(x), max(abs(y), abs(z))) <= _F1


@device
def world_tile(box, unbounded, unit, uoff, out, off):  # type: ignore[no-untyped-def]
    """World positions out [3, 64] of unit coordinates; the inverse of the contraction where space is unbounded."""
    for s in range(TILE):
        x, y, z = unit[uoff + s], unit[uoff + TILE + s], unit[uoff + 2 * TILE + s]
        if unbounded:
            x, y, z = _F4 * x - _F2, _F4 * y - _F2, _F4 * z - _F2
            n = min(max(abs(x), max(abs(y), max(abs(z), _F1))), _F2 - _FAR)
            f = _F1 / (n * (_F2 - n))
            x, y, z = (f * x + _F1) / _F2, (f * y + _F1) / _F2, (f * z + _F1) / _F2
        out[off + s] = box[0] + x * box[3]
        out[off + TILE + s] = box[1] + y * box[4]
        out[off + 2 * TILE + s] = box[2] + z * box[5]


@device
def place_tile(layers, layer, box, unbounded, bits, world, woff, unit, uoff, moff):  # type: ignore[no-untyped-def]
    """Unit coordinates of a tile in a layer's source, and 1 at unit[moff] where the layer is seen and may hold matter. Any of them?"""
    some = False
    nx, ny, nz = bits.shape
    for s in range(TILE):
        x, y, z = world[woff + s], world[woff + TILE + s], world[woff + 2 * TILE + s]
        seen = True
        for c in range(layers.runs[layer, 0], layers.runs[layer, 1]):
            if _inside(layers.condition_shape[c, 0], layers.condition, c, x, y, z) != (layers.condition_shape[c, 1] != 0):
                seen = False
                break
        if seen:
            x, y, z = _affine(layers.matrix, layer, x, y, z)
            x, y, z = (x - box[0]) / box[3], (y - box[1]) / box[4], (z - box[2]) / box[5]
            if unbounded:
                x, y, z = contracted(x, y, z)
            seen = x >= _F0 and x <= _F1 and y >= _F0 and y <= _F1 and z >= _F0 and z <= _F1
        if seen:
            i, j, k = min(np.int64(x * nx), nx - 1), min(np.int64(y * ny), ny - 1), min(np.int64(z * nz), nz - 1)
            seen = bits[i, j, k]
        if not seen:
            x, y, z = _F0, _F0, _F0
        unit[uoff + s], unit[uoff + TILE + s], unit[uoff + 2 * TILE + s] = x, y, z
        unit[moff + s] = _F1 if seen else _F0
        some = some or seen
    return some


def _densities(sources, first, field, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    """Adds the densities of all layers of ``sources``, the field's from ``first`` on, to x[xoff : xoff + 64]."""
    raise NotImplementedError


@overload(_densities, **OVERLOAD)
def _densities_overload(sources, first, field, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if len(sources) == 0:
        return lambda sources, first, field, x, xoff, rows, work: None

    def compiled(sources, first, field, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        source, layers, at = sources[0], field.layers, field.places
        for layer in range(layers.source.shape[0]):
            if layers.source[layer] != first:
                continue
            if not place_tile(layers, layer, source.box, source.unbounded, source.bits, x, xoff + TILE, work, at.unit, at.mask):
                continue
            encode_tile(source.field, work, at.unit, work, at.x, rows, work)
            handover_tile(source.field, work, at.x, work, at.h, work, at.acts, False)
            factor = layers.factor[layer]
            for s in range(TILE):
                x[xoff + s] += work[at.mask + s] * factor * density32(work[at.h + s])
        _densities(sources[1:], first + 1, field, x, xoff, rows, work)

    return compiled


def _colors(sources, first, field, h, hoff, sh, shoff, rgb, roff, total, rows, work):  # type: ignore[no-untyped-def]
    """Adds density * colour of all layers to rgb [3, 64] and their density to total [64]."""
    raise NotImplementedError


@register_jitable(**OVERLOAD["jit_options"])  # type: ignore[untyped-decorator]
def _turned(layers, layer, sh, shoff, out, off):  # type: ignore[no-untyped-def]
    """Spherical harmonics of the directions as the source sees them; the scene's direction is in its own degree-1 values."""
    c = np.float32(1.0 / 0.48860251190291987)
    m = layers.turn
    for s in range(TILE):
        y, z, x = -c * sh[shoff + TILE + s], c * sh[shoff + 2 * TILE + s], -c * sh[shoff + 3 * TILE + s]
        sh16(
            m[layer, 0] * x + m[layer, 1] * y + m[layer, 2] * z,
            m[layer, 3] * x + m[layer, 4] * y + m[layer, 5] * z,
            m[layer, 6] * x + m[layer, 7] * y + m[layer, 8] * z,
            out, off + s, TILE,
        )  # fmt: skip


@overload(_colors, **OVERLOAD)
def _colors_overload(sources, first, field, h, hoff, sh, shoff, rgb, roff, total, rows, work):  # type: ignore[no-untyped-def]
    if len(sources) == 0:
        return lambda sources, first, field, h, hoff, sh, shoff, rgb, roff, total, rows, work: None

    def compiled(sources, first, field, h, hoff, sh, shoff, rgb, roff, total, rows, work):  # type: ignore[no-untyped-def]
        source, layers, at = sources[0], field.layers, field.places
        for layer in range(layers.source.shape[0]):
            if layers.source[layer] != first:
                continue
            if not place_tile(layers, layer, source.box, source.unbounded, source.bits, h, hoff + TILE, work, at.unit, at.mask):
                continue
            encode_tile(source.field, work, at.unit, work, at.x, rows, work)
            handover_tile(source.field, work, at.x, work, at.h, work, at.acts, False)
            appearance_tile(source.field, work, at.unit, work, at.x, work, at.h, rows, work)
            for s in range(TILE):
                work[at.mask + s] *= layers.factor[layer] * density32(work[at.h + s])
            _turned(layers, layer, sh, shoff, work, at.sh)
            color_tile(source.field, work, at.h, work, at.sh, work, at.rgb, work, at.acts)
            for s in range(TILE):
                weight = work[at.mask + s]
                if weight <= _F0:
                    continue
                r, g, b = work[at.rgb + s], work[at.rgb + TILE + s], work[at.rgb + 2 * TILE + s]
                for t in range(layers.runs[layer, 2], layers.runs[layer, 3]):
                    x, y, z = h[hoff + TILE + s], h[hoff + 2 * TILE + s], h[hoff + 3 * TILE + s]
                    if _inside(layers.tint_shape[t], layers.tint_region, t, x, y, z):
                        r, g, b = _affine(layers.tint, t, r, g, b)
                        r, g, b = min(max(r, _F0), _F1), min(max(g, _F0), _F1), min(max(b, _F0), _F1)
                rgb[roff + s] += weight * r
                rgb[roff + TILE + s] += weight * g
                rgb[roff + 2 * TILE + s] += weight * b
                total[s] += weight
        _colors(sources[1:], first + 1, field, h, hoff, sh, shoff, rgb, roff, total, rows, work)

    return compiled


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        world_tile(field.box, field.unbounded, unit, uoff, x, xoff + TILE)
        for s in range(TILE):
            x[xoff + s] = _F0
        _densities(field.sources, 0, field, x, xoff, rows, work)
        for s in range(TILE):
            x[xoff + s] = np.log(x[xoff + s]) if x[xoff + s] > _F0 else _VOID

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        for i in range(_HAND * TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(gate_tile, **OVERLOAD)
def _gate_tile(field, h, hoff, inside):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None

    def compiled(field, h, hoff, inside):  # type: ignore[no-untyped-def]
        for s in range(TILE):
            if h[hoff + s] < NOTHING:
                inside[s] = _F0
                h[hoff + s] = _EMPTY

    return compiled


@overload(color_tile, **OVERLOAD)
def _color_tile(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None

    def compiled(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
        rows, total = np.zeros(field.places.rows, np.int32), np.zeros(TILE, np.float32)
        for i in range(3 * TILE):
            rgb[roff + i] = _F0
        _colors(field.sources, 0, field, h, hoff, sh, shoff, rgb, roff, total, rows, acts[aoff:])
        for channel in range(3):
            for s in range(TILE):
                rgb[roff + channel * TILE + s] /= max(total[s], np.float32(1e-30))

    return compiled


# The backward drivers are compiled with the forward ones' module but never run for edited scenes: their plan has no parameters.


@overload(color_backward, **OVERLOAD)
def _color_backward(field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None
    return lambda field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff: None


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None
    return lambda field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff: None


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, LayeredField):
        return None
    return lambda field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work: None


def _box(lowered: Lowered) -> np.ndarray:
    return np.array([*lowered.lower, *(b - a for a, b in zip(lowered.lower, lowered.upper, strict=True))], np.float32)


def _table(rows: list[Affine]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(len(rows), 12)


def layer_tables(encoding: LayeredEncoding) -> Layers:
    runs: list[list[int]] = []
    conditions: list[tuple[RegionTest, bool]] = []
    tints: list[tuple[RegionTest, Affine]] = []
    for layer in encoding.layers:
        run = [len(conditions), len(conditions) + len(layer.conditions), len(tints), len(tints) + len(layer.tints)]
        conditions += layer.conditions
        tints += layer.tints
        runs.append(run)
    matrix = _table([layer.matrix for layer in encoding.layers])
    turn = matrix.reshape(-1, 3, 4)[:, :, :3].astype(np.float64)
    turn /= np.abs(np.linalg.det(turn))[:, None, None] ** (1.0 / 3.0)
    return Layers(
        np.array([layer.source for layer in encoding.layers], np.int64),
        np.array(runs, np.int64).reshape(-1, 4),
        matrix,
        np.ascontiguousarray(turn.reshape(-1, 9), np.float32),
        np.array([layer.factor for layer in encoding.layers], np.float32),
        np.array([(test.shape, inside) for test, inside in conditions], np.int64).reshape(-1, 2),
        _table([test.matrix for test, _ in conditions]),
        np.array([test.shape for test, _ in tints], np.int64),
        _table([test.matrix for test, _ in tints]),
        _table([tint for _, tint in tints]),
    )


def plan_layered(lowered: Lowered, encoding: LayeredEncoding) -> Plan:
    plans = [make_plan(source) for source, _ in encoding.sources]
    sources = tuple(
        Source(plan.field, _box(source), source.unbounded, np.ascontiguousarray(bits.detach().numpy()))
        for plan, (source, bits) in zip(plans, encoding.sources, strict=True)
    )
    sizes = [plan.shape for plan in plans]
    own = max(size.work for size in sizes)
    encoded, hand = max(size.encoded for size in sizes), max(size.hand for size in sizes)
    lengths = [own, 3 * TILE, TILE, encoded * TILE, hand * TILE, 16 * TILE, 4 * TILE]
    unit, mask, x, h, sh, rgb, acts = np.cumsum(lengths).tolist()
    rows = max(size.rows for size in sizes)
    scratch = acts + max(size.acts for size in sizes)
    field = LayeredField(sources, layer_tables(encoding), _box(lowered), lowered.unbounded, Places(unit, mask, x, h, sh, rgb, acts, rows))
    return Plan(field, Shape(_HAND, _HAND, scratch, rows, scratch, _HAND, _HAND), [], [], [], 0, 1)


def check_layered(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, LayeredEncoding)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in encoding_tensors(encoding)):
        return "gradients of an edited scene have no compiled kernel"
    for source, bits in encoding.sources:
        if isinstance(source.encoding, LayeredEncoding):
            return "an edited scene within an edited scene has no compiled kernel"
        if bits.dim() != 3 or bits.device.type != "cpu":
            return "occupancy bits that are not a grid on the CPU have no compiled kernel"
        reason = supports(source)
        if reason is not None:
            return reason
    return None


PLANNERS[LayeredEncoding] = plan_layered
CHECKS[LayeredEncoding] = check_layered
