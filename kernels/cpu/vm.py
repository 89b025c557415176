"""TensoRF's vector-matrix family: planes times lines, density first, colour only where a ray sees something.

A tile's x is its hand-over: the raw log density (from ``encode_tile``) and 15 features (from
``appearance_tile``).  Gradients of factors and basis are computed where they are scattered:
a part owns 16 channels of one mode, so no two threads meet and products need no storage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload
from torch import Tensor

from ..lowered import Lowered, VMEncoding
from .drive import Shape
from .factors import (
    GROUP,
    HAND,
    basis_gradient,
    density_slopes,
    hand_features,
    mode_cells,
    mode_products,
    mode_scatter,
    mode_sum,
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
from .jit import OVERLOAD, TILE
from .plan import CHECKS, PLANNERS, SH, Packer, Plan, activations, flat, network_scratch

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class VMField(NamedTuple):
    density_planes: Arrays  # mode m: [R_b * R_a * C]
    density_lines: Arrays  # mode m: [R_c * C]
    color_planes: Arrays
    color_lines: Arrays
    density_sizes: np.ndarray  # [9] int64: R_a, R_b, R_c of each mode
    color_sizes: np.ndarray
    density_rank: int
    color_rank: int
    shift: float  # float32
    basis: np.ndarray  # [15 * 3 C]
    turned: np.ndarray  # [3 * padded C * 16]: the basis' transpose from column 1 on
    weights: np.ndarray
    color_at: int
    color_widths: np.ndarray


handover_family(VMField)
late_family(VMField)


@overload(encode_tile, **OVERLOAD)
def _encode_tile(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, VMField):
        return None

    def compiled(field, unit, uoff, x, xoff, rows, work):  # type: ignore[no-untyped-def]
        for s in range(TILE):
            x[xoff + s] = field.shift
        for mode in range(3):
            mode_cells(field.density_sizes, mode, unit, uoff, rows, 0, work, 0)
            plane, line = field.density_planes[mode], field.density_lines[mode]
            mode_sum(plane, line, field.density_sizes, mode, field.density_rank, rows, 0, work, 0, x, xoff)

    return compiled


@overload(appearance_tile, **OVERLOAD)
def _appearance_tile(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, VMField):
        return None

    def compiled(field, unit, uoff, x, xoff, h, hoff, rows, work):  # type: ignore[no-untyped-def]
        rank = field.color_rank
        padded = (rank + 15) // 16 * 16
        width = 3 * padded
        products, features = 9 * TILE, 9 * TILE + GROUP * width
        for mode in range(3):
            mode_cells(field.color_sizes, mode, unit, uoff, rows, 3 * mode * TILE, work, 3 * mode * TILE)
        for first in range(0, TILE, GROUP):
            for mode in range(3):
                mode_products(
                    field.color_planes[mode], field.color_lines[mode], field.color_sizes, mode, rank, rows, 3 * mode * TILE,
                    work, 3 * mode * TILE, first, first + GROUP, work, products + mode * padded, width, True,
                )  # fmt: skip
            project(work, products, width, field.turned, work, features + first * 16)
        hand_features(work, features, x, xoff)
        for i in range(TILE, HAND * TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(handover_tile, **OVERLOAD)
def _handover_tile(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
    if not is_family(field, VMField):
        return None

    def compiled(field, x, xoff, h, hoff, acts, aoff, whole):  # type: ignore[no-untyped-def]
        for i in range(HAND * TILE if whole else TILE):
            h[hoff + i] = x[xoff + i]

    return compiled


@overload(handover_backward, **OVERLOAD)
def _handover_backward(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
    if not is_family(field, VMField):
        return None

    def compiled(field, x, xoff, dh, dhoff, dx, dxoff, acts, aoff, g, work, wkoff):  # type: ignore[no-untyped-def]
        for i in range(HAND * TILE):
            dx[dxoff + i] = dh[dhoff + i]

    return compiled


@overload(scatter_tile, **OVERLOAD)
def _scatter_tile(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
    if not is_family(field, VMField):
        return None

    def compiled(field, grads, part, parts, unit, uoff, dx, dxoff, count, rows, work):  # type: ignore[no-untyped-def]
        slopes, products, scratch = 3 * TILE, 19 * TILE, 35 * TILE
        columns = (field.color_rank + 15) // 16
        if part < 3 * columns:
            mode, c = part // columns, part % columns * 16
            rank = field.color_rank
            place, lanes = mode * rank + c, rank - c
            mode_cells(field.color_sizes, mode, unit, uoff, rows, 0, work, 0)
            product_slopes(field.basis, 3 * rank, place, lanes, dx, dxoff, work, slopes)
            mode_scatter(
                field.color_planes[mode], field.color_lines[mode], grads[6 + mode], grads[9 + mode], field.color_sizes, mode, rank, c,
                rows, 0, work, 0, work, slopes, 16, count, work, products, True,
            )  # fmt: skip
            basis_gradient(dx, dxoff, work, products, count, grads[12], 3 * rank, place, lanes, work, scratch)
        else:
            columns = (field.density_rank + 15) // 16
            mode, c = (part - parts) // columns + 3, (part - parts) % columns * 16
            mode_cells(field.density_sizes, mode, unit, uoff, rows, 0, work, 0)
            density_slopes(dx, dxoff, work, slopes)
            mode_scatter(
                field.density_planes[mode], field.density_lines[mode], grads[mode], grads[3 + mode], field.density_sizes, mode,
                field.density_rank, c, rows, 0, work, 0, work, slopes, 16, count, work, products, False,
            )  # fmt: skip

    return compiled


def triple(tensors: tuple[Tensor, Tensor, Tensor]) -> Arrays:
    a, b, c = (flat(t) for t in tensors)
    return a, b, c


def mode_sizes(planes: tuple[Tensor, ...], lines: tuple[Tensor, ...]) -> np.ndarray:
    """[9]: R_a, R_b, R_c of each mode."""
    return np.array([n for p, l in zip(planes, lines, strict=True) for n in (p.shape[1], p.shape[0], l.shape[0])], np.int64)


def turned_basis(basis: Tensor, modes: int) -> np.ndarray:
    """The transpose of basis [15, modes * C] as [modes * padded C, 16], features from column 1 on."""
    rank = basis.shape[1] // modes
    padded = -(-rank // 16) * 16
    out = np.zeros((modes, padded, 16), np.float32)
    out[:, :rank, 1:] = basis.detach().reshape(15, modes, rank).permute(1, 2, 0).numpy()
    return out.reshape(-1)


def columns(rank: int) -> int:
    """Blocks of 16 channels."""
    return -(-rank // 16)


def make_field(encoding: VMEncoding, weights: np.ndarray, color_at: int, color: np.ndarray) -> VMField:
    e = encoding
    return VMField(
        triple(e.density_planes), triple(e.density_lines), triple(e.color_planes), triple(e.color_lines),
        mode_sizes(e.density_planes, e.density_lines), mode_sizes(e.color_planes, e.color_lines),
        e.density_lines[0].shape[1], e.color_lines[0].shape[1], np.float32(e.shift), flat(e.basis), turned_basis(e.basis, 3),
        weights, color_at, color,
    )  # fmt: skip


def scratch_numbers(encoding: VMEncoding) -> int:
    """``work`` this family needs: cells, then products and features, or slopes, products and the basis' gradient."""
    return max(9 * TILE + GROUP * 3 * columns(encoding.color_lines[0].shape[1]) * 16 + 16 * TILE, 39 * TILE)


def tables(encoding: VMEncoding) -> list[Tensor]:
    return [*encoding.density_planes, *encoding.density_lines, *encoding.color_planes, *encoding.color_lines, encoding.basis]


def parts(encoding: VMEncoding) -> int:
    return 3 * (columns(encoding.density_lines[0].shape[1]) + columns(encoding.color_lines[0].shape[1]))


def plan_vm(lowered: Lowered, encoding: VMEncoding) -> Plan:
    packer = Packer()
    color_at, color = packer.add(lowered.color_head, 2 * SH)
    field = make_field(encoding, packer.pack(), color_at, color)
    work = max(scratch_numbers(encoding), network_scratch(color))
    shape = Shape(HAND, HAND, 2 * SH * TILE + activations(color), 9 * TILE, work, 1, 1)
    return Plan(field, shape, tables(encoding), packer.tensors, packer.places, packer.length, parts(encoding))


def factor_reason(tensors: list[Tensor]) -> str | None:
    """Why these factors have no compiled kernel, or None."""
    if any(t.numel() >= 1 << 31 for t in tensors):
        return "a factor of more than 2^31 numbers has no compiled kernel"
    return "a factor is empty" if any(t.numel() == 0 for t in tensors) else None


def check_vm(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, VMEncoding)
    return factor_reason(tables(encoding))


PLANNERS[VMEncoding] = plan_vm
CHECKS[VMEncoding] = check_vm
