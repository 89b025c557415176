"""TensoRF's CP family: products of three lines. Put together like :mod:`vm`, whose single mode it would be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload
from torch import Tensor

from ..lowered import CPEncoding, Lowered
from .drive import Shape
from .factors import (
    GROUP,
    HAND,
    add_line,
    axis_cells,
    basis_gradient,
    density_slopes,
    hand_features,
    line_value,
    product_slopes,
    project,
)
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
from .jit import OVERLOAD, TILE, device
from .plan import CHECKS, PLANNERS, SH, Packer, Plan, activations, flat, network_scratch
from .vec16 import fma16, load16, mul16, splat16, store16, sum16
from .vm import Arrays, columns, factor_reason, triple, turned_basis

_F0 = np.float32(0.0)


class CPField(NamedTuple):
    density_lines: Arrays  # axis a: [R_a * C]
    color_lines: Arrays
    density_sizes: np.ndarray  # [3] int64
    color_sizes: np.ndarray
    density_rank: int
    color_rank: int
    shift: float  # float32
    basis: np.ndarray  # [15 * C]
    turned: np.ndarray  # [padded C * 16]: its transpose from column 1 on
    weights: np.ndarray
    color_at: int
    color_widths: np.ndarray


handover_family(CPField)
late_family(CPField)


@device
def lines_cells(sizes, unit, uoff, rows, work):  # type: ignore[no-untyped-def]
    """rows [3, 64]: vertex along each axis; work [3, 64]: fractions."""
    for axis in range(3):
        axis_cells(sizes[axis], unit, uoff + axis * TILE, rows, axis * TILE, work, axis * TILE)


@device
def lines_products(lines, sizes, channels, rows, work, first, last, out, ooff, stride, whole):  # type: ignore[no-untyped-def]
    """Products of samples first..last of a tile into out[ooff + (s - first) * stride + channel]; ``whole`` pads with zeros to columns."""
    x, y, z = lines
    dx, dy, dz = channels * (sizes[0] > 1), channels * (sizes[1] > 1), channels * (sizes[2] > 1)
    for s in range(first, last):
        i, j, k = np.int64(rows[s]) * channels, np.int64(rows[TILE + s]) * channels, np.int64(rows[2 * TILE + s]) * channels
        u, v, w = work[s], work[TILE + s], work[2 * TILE + s]
        to = ooff + (s - first) * stride
        for c in range(0, channels, 16):
            n = channels - c
            value = mul16(line_value(x, i + c, dx, n, u), mul16(line_value(y, j + c, dy, n, v), line_value(z, k + c, dz, n, w)))
            store16(out, to + c, 16 if whole else n, value)


@device
def lines_sum(lines, sizes, channels, rows, work, out, ooff):  # type: ignore[no-untyped-def]
    """Adds the sum of each sample's products to out [64]."""
    x, y, z = lines
    dx, dy, dz = channels * (sizes[0] > 1), channels * (sizes[1] > 1), channels * (sizes[2] > 1)
    for s in range(TILE):
        i, j, k = np.int64(rows[s]) * channels, np.int64(rows[TILE + s]) * channels, np.int64(rows[2 * TILE + s]) * channels
        u, v, w = work[s], work[TILE + s], work[2 * TILE + s]
        total = splat16(_F0)
        for c in range(0, channels, 16):
            n = channels - c
            pair = mul16(line_value(x, i + c, dx, n, u), line_value(y, j + c, dy, n, v))
            total = fma16(pair, line_value(z, k + c, dz, n, w), total)
        out[ooff + s] += sum16(total)


@device
def lines_scatter(lines, gradients, first, sizes, channels, c, rows, work, d, doff, stride, count, out, ooff, keep):  # type: ignore[no-untyped-def]
    """Adds the gradients of one column of channels to gradients[first..first + 2]; as :func:`factors.mode_scatter`."""
    x, y, z = lines
    gx, gy, gz = gradients[first], gradients[first + 1], gradients[first + 2]
    dx, dy, dz = channels * (sizes[0] > 1), channels * (sizes[1] > 1), channels * (sizes[2] > 1)
    n = channels - c
    for s in range(count):
        i = np.int64(rows[s]) * channels + c
        j = np.int64(rows[TILE + s]) * channels + c
        k = np.int64(rows[2 * TILE + s]) * channels + c
        u, v, w = work[s], work[TILE + s], work[2 * TILE + s]
        slope = load16(d, doff + s * stride, n)
        on_x, on_y, on_z = line_value(x, i, dx, n, u), line_value(y, j, dy, n, v), line_value(z, k, dz, n, w)
        pair = mul16(on_x, on_y)
        if keep:
            store16(out, ooff + s * 16, 16, mul16(pair, on_z))
        add_line(gz, k, dz, n, w, mul16(slope, pair))
        rest = mul16(slope, on_z)
        add_line(gx, i, dx, n, u, mul16(rest, on_y))
        add_line(gy, j, dy, n, v, mul16(rest, on_x))


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, CPField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        for s in range(TILE):
            x[xoff + s] = field.shift
        lines_cells(field.density_sizes, unit, uoff, rows, work)
        lines_sum(field.density_lines, field.density_sizes, field.density_rank, rows, work, x, xoff)

    return compiled


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, CPField):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        width = (field.color_rank + 15) // 16 * 16
        products, features = 3 * TILE, 3 * TILE + GROUP * width
        lines_cells(field.color_sizes, unit, uoff, rows, work)
        for first in range(0, TILE, GROUP):
            lines_products(
                field.color_lines, field.color_sizes, field.color_rank, rows, work, first, first + GROUP, work, products, width, True
            )
            project(work, products, width, field.turned, work, features + first * 16)
        hand_features(work, features, x, xoff)
        for i in range(TILE, HAND * TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, CPField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        for i in range(HAND * TILE if whole else TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, CPField):
        return None

    def compiled(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        for i in range(HAND * TILE):
            dx[dxoff + i] = dh[dhoff + i]

    return compiled


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, CPField):
        return None

    def compiled(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        slopes, products, scratch = 3 * TILE, 19 * TILE, 35 * TILE
        rank = field.color_rank
        if part < (rank + 15) // 16:
            c = part * 16
            lines_cells(field.color_sizes, unit, uoff, rows, work)
            product_slopes(field.basis, rank, c, rank - c, dx, dxoff, work, slopes)
            lines_scatter(
                field.color_lines, grads, 3, field.color_sizes, rank, c, rows, work, work, slopes, 16, count, work, products, True
            )
            basis_gradient(dx, dxoff, work, products, count, grads[6], rank, c, rank - c, work, scratch)
        else:
            c = (part - (rank + 15) // 16) * 16
            lines_cells(field.density_sizes, unit, uoff, rows, work)
            density_slopes(dx, dxoff, work, slopes)
            lines_scatter(
                field.density_lines, grads, 0, field.density_sizes, field.density_rank, c, rows, work, work, slopes, 16, count,
                work, products, False,
            )  # fmt: skip

    return compiled


def make_field(encoding: CPEncoding, weights: np.ndarray, color_at: int, color: np.ndarray) -> CPField:
    density, lines = encoding.density_lines, encoding.color_lines
    return CPField(
        triple(density), triple(lines), np.array([t.shape[0] for t in density], np.int64), np.array([t.shape[0] for t in lines], np.int64),
        density[0].shape[1], lines[0].shape[1], np.float32(encoding.shift), flat(encoding.basis), turned_basis(encoding.basis, 1),
        weights, color_at, color,
    )  # fmt: skip


def scratch_numbers(encoding: CPEncoding) -> int:
    """``work`` this family needs: cells, then products and features, or slopes, products and the basis' gradient."""
    return max(3 * TILE + GROUP * columns(encoding.color_lines[0].shape[1]) * 16 + 16 * TILE, 39 * TILE)


def tables(encoding: CPEncoding) -> list[Tensor]:
    return [*encoding.density_lines, *encoding.color_lines, encoding.basis]


def parts(encoding: CPEncoding) -> int:
    return columns(encoding.density_lines[0].shape[1]) + columns(encoding.color_lines[0].shape[1])


def plan_cp(lowered: Lowered, encoding: CPEncoding) -> Plan:
    packer = Packer()
    color_at, color = packer.add(lowered.color_head, 2 * SH)
    field = make_field(encoding, packer.pack(), color_at, color)
    work = max(scratch_numbers(encoding), network_scratch(color))
    shape = Shape(HAND, HAND, 2 * SH * TILE + activations(color), 9 * TILE, work, 1, 1)
    return Plan(field, shape, tables(encoding), packer.tensors, packer.places, packer.length, parts(encoding))


def check_cp(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, CPEncoding)
    return factor_reason(tables(encoding))


PLANNERS[CPEncoding] = plan_cp
CHECKS[CPEncoding] = check_cp
