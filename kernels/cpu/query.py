"""Planes times lines whose density products go through a network: one moment of a time query. For pictures only.

A tile's x is the density products, then the rows of the vm family; training goes through the operations by themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba.extending import overload

from ..lowered import Lowered, VMEncoding
from .drive import Shape
from .factors import HAND, mode_cells, mode_products
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
from .jit import OVERLOAD, TILE
from .mlp import mlp_forward
from .plan import CHECKS, PLANNERS, SH, Packer, Plan, Query, activations, network_scratch
from .vm import VMField, factor_reason, make_field, scratch_numbers, tables

_F0 = np.float32(0.0)
_FIRST = 4
"""Rows of the hand-over that the density network writes; only the first means something."""


class QueryField(NamedTuple):
    factors: VMField
    shift: float  # float32
    weights: np.ndarray
    density_widths: np.ndarray
    color_at: int
    color_widths: np.ndarray


handover_family(QueryField)
late_family(QueryField)


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, QueryField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        vm, width = field.factors, field.density_widths[0]
        rank, products = vm.density_rank, 3 * TILE
        for mode in range(3):
            mode_cells(vm.density_sizes, mode, unit, uoff, rows, 0, work, 0)
            to = products + mode * rank
            mode_products(
                vm.density_planes[mode], vm.density_lines[mode], vm.density_sizes, mode, rank, rows, 0, work, 0, 0, TILE, work, to, width,
                False,
            )  # fmt: skip
        for row in range(width):
            for s in range(TILE):
                x[xoff + row * TILE + s] = work[products + s * width + row] if row < 3 * rank else _F0

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, QueryField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        mlp_forward(field.weights, 0, field.density_widths, x, xoff, h, hoff, acts, aoff)
        for s in range(TILE):
            h[hoff + s] += field.shift
        if whole:
            for i in range(TILE, HAND * TILE):
                h[hoff + i] = x[xoff + field.density_widths[0] * TILE + i]

    return compiled


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, QueryField):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        appearance_tile(field.factors, unit, uoff, x, xoff + field.density_widths[0] * TILE, h, hoff, rows, work)

    return compiled


# The backward drivers are compiled with the forward ones' module but never run: see ``check_query``.


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, QueryField):
        return None
    return lambda field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff: None


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, QueryField):
        return None
    return lambda field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work: None


def plan_query(lowered: Lowered, encoding: VMEncoding) -> Plan:
    packer = Packer()
    width = -(-lowered.density_head[0].shape[1] // 16) * 16
    _, density = packer.add(lowered.density_head, width)
    color_at, color = packer.add(lowered.color_head, 2 * SH)
    weights = packer.pack()
    factors = make_field(encoding, weights, color_at, color)
    field = QueryField(factors, np.float32(encoding.shift), weights, density, color_at, color)
    acts = max(activations(density), 2 * SH * TILE + activations(color))
    work = max(scratch_numbers(encoding), network_scratch(color, density), 3 * TILE + TILE * width + 16)
    shape = Shape(width + HAND, HAND, acts, 9 * TILE, work, width, _FIRST)
    return Plan(field, shape, tables(encoding), packer.tensors, packer.places, packer.length, 1)


def check_query(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, VMEncoding)
    everything = (*tables(encoding), *lowered.density_head, *lowered.color_head)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in everything):
        return "gradients of a time query have no compiled kernel of their own"
    return factor_reason(tables(encoding))


PLANNERS[Query] = plan_query
CHECKS[Query] = check_query
