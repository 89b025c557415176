"""Compositions: the hand-over numbers of several branches, summed.

Branch after branch has its rows of x, its activations, its parts of the scatter and its share
of the gradients; the tile functions of the branches' own families do the work.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload, register_jitable
from torch import Tensor

from ..lowered import CPEncoding, GridEncoding, HybridEncoding, Lowered, VMEncoding
from .cp import CPField
from .drive import Shape
from .factors import HAND
from .fields import (
    appearance_tile,
    encode_tile,
    handover_backward,
    handover_family,
    handover_tile,
    is_family,
    late_family,
    scatter_tile,
)
from .grid import GridField
from .jit import OVERLOAD, TILE
from .plan import CHECKS, PLANNERS, SH, Packer, Plan, activations, network_scratch
from .vm import VMField

_F0 = np.float32(0.0)
_TABLES = {GridField: 1, VMField: 13, CPField: 7}
"""Gradient arrays of each family."""
_BRANCHES = (GridEncoding, VMEncoding, CPEncoding)


class HybridField(NamedTuple):
    branches: Any  # a tuple of other families' fields
    places: np.ndarray  # [branches, 4] int64: first row of x, first weight, first activation, parts of the scatter
    spare: int  # where in ``work`` there is room for a hand-over
    weights: np.ndarray
    color_at: int
    color_widths: np.ndarray


handover_family(HybridField)
late_family(HybridField)


@register_jitable(**OVERLOAD["jit_options"])  # type: ignore[untyped-decorator]
def _clear(h, hoff):  # type: ignore[no-untyped-def]
    for i in range(HAND * TILE):
        h[hoff + i] = _F0


@register_jitable(**OVERLOAD["jit_options"])  # type: ignore[untyped-decorator]
def _add(h, hoff, more, moff):  # type: ignore[no-untyped-def]
    for i in range(HAND * TILE):
        h[hoff + i] += more[moff + i]


def _encode(branches, places, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@overload(_encode, **OVERLOAD)
def _encode_overload(branches, places, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if len(branches) == 0:
        return lambda branches, places, unit, uoff, x, xoff, rows, work: None

    def compiled(branches, places, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        encode_tile(branches[0], unit, uoff, x, xoff + places[0, 0] * TILE, rows, work)
        _encode(branches[1:], places[1:], unit, uoff, x, xoff, rows, work)

    return compiled


def _appear(branches, places, unit, uoff, x, xoff, h, hoff, rows, work, spare):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@overload(_appear, **OVERLOAD)
def _appear_overload(branches, places, unit, uoff, x, xoff, h, hoff, rows, work, spare):  # type: ignore[no-untyped-def]
    if len(branches) == 0:
        return lambda branches, places, unit, uoff, x, xoff, h, hoff, rows, work, spare: None

    def compiled(branches, places, unit, uoff, x, xoff, h, hoff, rows, work, spare):  # type: ignore[no-untyped-def]
        _clear(work, spare)
        appearance_tile(branches[0], unit, uoff, x, xoff + places[0, 0] * TILE, work, spare, rows, work)
        _add(h, hoff, work, spare)
        _appear(branches[1:], places[1:], unit, uoff, x, xoff, h, hoff, rows, work, spare)

    return compiled


def _hand(branches, places, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@overload(_hand, **OVERLOAD)
def _hand_overload(branches, places, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if len(branches) == 0:
        return lambda branches, places, x, xoff, h, hoff, acts, aoff, whole: None

    def compiled(branches, places, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        _clear(acts, aoff)
        handover_tile(branches[0], x, xoff + places[0, 0] * TILE, acts, aoff, acts, aoff + places[0, 2], whole)
        _add(h, hoff, acts, aoff)
        _hand(branches[1:], places[1:], x, xoff, h, hoff, acts, aoff, whole)

    return compiled


def _back(branches, places, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@overload(_back, **OVERLOAD)
def _back_overload(branches, places, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if len(branches) == 0:
        return lambda branches, places, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff: None

    def compiled(branches, places, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        row = places[0, 0] * TILE
        here = g[places[0, 1] :]
        handover_backward(branches[0], x, xoff + row, dh, dhoff, dx, dxoff + row, acts, aoff + places[0, 2], here, work, wkoff)
        _back(branches[1:], places[1:], x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff)

    return compiled


def _scatter(branches, places, grads, part, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@overload(_scatter, **OVERLOAD)
def _scatter_overload(branches, places, grads, part, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if len(branches) == 0:
        return lambda branches, places, grads, part, unit, uoff, dx, dxoff, count, rows, work: None
    tables = next(number for family, number in _TABLES.items() if is_family(branches[0], family))

    def compiled(branches, places, grads, part, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        parts = places[0, 3]
        if part < parts:
            scatter_tile(branches[0], grads, part, parts, unit, uoff, dx, dxoff + places[0, 0] * TILE, count, rows, work)
        else:
            _scatter(branches[1:], places[1:], grads[tables:], part - parts, unit, uoff, dx, dxoff, count, rows, work)

    return compiled


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HybridField):
        return None
    return lambda field, unit, uoff, x, xoff, rows, work: _encode(field.branches, field.places, unit, uoff, x, xoff, rows, work)


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HybridField):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        _appear(field.branches, field.places, unit, uoff, x, xoff, h, hoff, rows, work, field.spare)

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, HybridField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        _clear(h, hoff)
        _hand(field.branches, field.places, x, xoff, h, hoff, acts, aoff, whole)

    return compiled


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, HybridField):
        return None

    def compiled(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        _back(field.branches, field.places, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff)

    return compiled


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, HybridField):
        return None

    def compiled(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        _scatter(field.branches, field.places, grads, part, unit, uoff, dx, dxoff, count, rows, work)

    return compiled


def plan_hybrid(lowered: Lowered, encoding: HybridEncoding) -> Plan:
    packer = Packer()
    starts, plans = [], []
    for branch, head in encoding.branches:
        part = Lowered(lowered.lower, lowered.upper, lowered.unbounded, branch, head, ())
        plans.append(PLANNERS[type(branch)](part, branch))
        starts.append(packer.length)
        if head:
            packer.add(head, plans[-1].shape.encoded)
    color_at, color = packer.add(lowered.color_head, 2 * SH)
    weights = packer.pack()
    fields, places = [], []
    row, act = 0, HAND * TILE
    tables: list[Tensor] = []
    for start, plan in zip(starts, plans, strict=True):
        fields.append(plan.field._replace(weights=weights[start : start + plan.packed]))
        places.append((row, start, act, plan.parts))
        row, act = row + plan.shape.encoded, act + plan.shape.acts
        tables += plan.tables
    spare = max(network_scratch(color), *(plan.shape.work for plan in plans))
    field = HybridField(tuple(fields), np.array(places, np.int64), spare, weights, color_at, color)
    acts = max(act, 2 * SH * TILE + activations(color))
    rows = max(plan.shape.rows for plan in plans)
    shape = Shape(row, HAND, acts, rows, spare + HAND * TILE, row, HAND)
    return Plan(field, shape, tables, packer.tensors, packer.places, packer.length, sum(plan.parts for plan in plans))


def check_hybrid(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, HybridEncoding)
    if not encoding.branches:
        return "a composition without branches has no compiled kernel"
    for branch, head in encoding.branches:
        part = Lowered(lowered.lower, lowered.upper, lowered.unbounded, branch, head, lowered.color_head)
        name = type(branch).__name__
        reason = CHECKS[type(branch)](part) if type(branch) in _BRANCHES else f"no compiled kernel for {name} in a composition"
        if reason is None and any(max(w.shape) > 256 for w in head):
            reason = "a network wider than 256 has no compiled kernel"
        if reason is not None:
            return reason
    return None


PLANNERS[HybridEncoding] = plan_hybrid
CHECKS[HybridEncoding] = check_hybrid
