"""What a family must provide to be evaluated, trained and rendered by the shared drivers.

A family is a ``NamedTuple`` of arrays and numbers (it travels into compiled code as one
argument) plus overloads of the functions below for its type:

    @overload(encode_tile, **OVERLOAD)
    def _(field, unit, uoff, x, xoff, rows, work):
        if is_family(field, GridField):
            def compiled(field, unit, uoff, x, xoff, rows, work): ...
            return compiled

All arrays are flat float32 with an offset, tiles are feature-major (``[feature, 64]``).
``field.color``/``color_widths`` and the colour functions of families that end in PVD's 16
numbers are shared: register the type with :func:`handover_family`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .jit import OVERLOAD, TILE
from .maths import sigmoid32
from .mlp import mlp_backward, mlp_forward


def is_family(kind: Any, family: type) -> bool:
    """Whether the Numba type ``kind`` is the NamedTuple ``family``."""
    return isinstance(kind, types.BaseNamedTuple) and kind.instance_class is family


def encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    """Encoded numbers x [E, 64] at unit coordinates unit [3, 64] in [0, 1].

    ``rows`` (int32) and ``work`` (float32) are scratch of the plan's sizes.  A :func:`late_family` fills only the
    first ``shape.first_x`` rows here: what the density needs.
    """
    raise NotImplementedError


def appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    """The rows of x [E, 64] and h [H, 64] that only colour needs, for samples that a ray sees.

    Optional, for families whose density costs less than all the rest: call :func:`late_family`, and let ``encode_tile`` and
    ``handover_tile`` fill only the first ``shape.first_x`` and ``shape.first_h`` rows.
    """
    raise NotImplementedError


def gate_tile(field, h, hoff, inside):  # type: ignore[no-untyped-def]
    """Set inside [64] to 0 where a family has no density at all (and h to the log density it would have); optional.

    Only single positions are asked: for the renderer, ``encode_tile`` says it by a log density below :data:`NOTHING`.
    """
    raise NotImplementedError


def handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    """Hand-over h [H, 64] from x [E, 64]: row 0 is the raw log density. Not ``whole``: of x, only what ``encode_tile`` wrote is there."""
    raise NotImplementedError


def handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    """dx [E, 64] from dh [H, 64], adding to the weight gradients g; acts as :func:`handover_tile` left them for this tile."""
    raise NotImplementedError


def color_tile(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
    """rgb [3, 64] (4 rows of room) in [0, 1] from the hand-over and sh [16, 64] of the directions."""
    raise NotImplementedError


def color_backward(field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    """dh[1:] (H + 1 rows of room) from drgb [3, 64] (4 rows, last zero), the gradient *before* the sigmoid; adds to g."""
    raise NotImplementedError


def scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    """Adds the first ``count`` samples' dx to the parameter gradients ``grads`` (a tuple of flat arrays).

    Parts 0..parts-1 write to disjoint memory, so each runs on its own thread and every sum keeps the order of the samples.
    """
    raise NotImplementedError


_HANDOVER: list[type] = []


def handover_family(family: type) -> None:
    """Let ``family`` (with fields ``weights``, ``color_at``, ``color_widths``) use the shared colour network."""
    _HANDOVER.append(family)


def _is_handover(kind: Any) -> bool:
    return any(is_family(kind, family) for family in _HANDOVER)


_LATE: list[type] = []


def late_family(family: type) -> None:
    """``family`` brings its own :func:`appearance_tile`."""
    _LATE.append(family)


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if any(is_family(field, family) for family in _LATE):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        pass

    return compiled


NOTHING = np.float32(-1e29)
"""A log density below this is none at all."""
_GATED: list[type] = []


def gated_family(family: type) -> None:
    """``family`` brings its own :func:`gate_tile`."""
    _GATED.append(family)


@overload(gate_tile, **OVERLOAD)
def _gate_tile(field, h, hoff, inside):  # type: ignore[no-untyped-def]
    if any(is_family(field, family) for family in _GATED):
        return None

    def compiled(field, h, hoff, inside):  # type: ignore[no-untyped-def]
        pass

    return compiled


_FEATURES = 15
_SH = 16


@overload(color_tile, **OVERLOAD)
def _color_tile(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
    if not _is_handover(field):
        return None

    def compiled(field, h, hoff, sh, shoff, rgb, roff, acts, aoff):  # type: ignore[no-untyped-def]
        # The network's input (16 direction values, 15 features, one zero) goes in front of its activations.
        for i in range(_SH * TILE):
            acts[aoff + i] = sh[shoff + i]
        for i in range(_FEATURES * TILE):
            acts[aoff + _SH * TILE + i] = h[hoff + TILE + i]
        for i in range(TILE):
            acts[aoff + (_SH + _FEATURES) * TILE + i] = np.float32(0.0)
        mlp_forward(field.weights, field.color_at, field.color_widths, acts, aoff, rgb, roff, acts, aoff + 32 * TILE)
        for i in range(3 * TILE):
            rgb[roff + i] = sigmoid32(rgb[roff + i])

    return compiled


@overload(color_backward, **OVERLOAD)
def _color_backward(field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not _is_handover(field):
        return None

    def compiled(field, h, hoff, sh, shoff, drgb, droff, dh, dhoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        mlp_backward(
            field.weights, field.color_at, field.color_widths, acts, aoff, drgb, droff, dh, dhoff + TILE, _SH,
            acts, aoff + 32 * TILE, g, field.color_at, work, wkoff,
        )  # fmt: skip

    return compiled
