"""Table rows of four numbers as vectors: gathered at the eight corners of a cell, and scattered to.

Left to the compiler the four sums of a sample stay scalars, because a tile's arrays might overlap.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import TILE
from .simd import _F32, _data, _fma, _int, _splat, _turned

WIDTH = 4
_ROW = ir.VectorType(_F32, WIDTH)


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Address of four consecutive floats."""
    return builder.bitcast(_data(context, builder, kind, array, index), _ROW.as_pointer())


def _corner(context: Any, builder: Any, kinds: Any, rows: Any, weights: Any, place: Any) -> tuple[Any, Any]:
    """Where in the table the row of a corner begins, and the corner's weight in every lane."""
    row = builder.sext(builder.load(_data(context, builder, kinds[1], rows, place)), ir.IntType(64))
    weight = builder.load(_data(context, builder, kinds[2], weights, place))
    return builder.mul(row, _int(WIDTH)), _splat(builder, weight, WIDTH)


@intrinsic
def gather4(typing: Any, table: Any, rows: Any, weights: Any, s: Any, x: Any, xoff: Any) -> Any:
    """gather4(table, rows, weights, s, x, xoff): x[f, s + j] = sum over corners c of weights[c, s + j] table[rows[c, s + j], f], j < 4."""
    i = types.int64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table, rows, weights, s, x, xoff = args
        kinds = signature.args
        sums = []
        for j in range(WIDTH):
            total = ir.Constant(_ROW, [0.0] * WIDTH)
            for corner in range(8):
                row, weight = _corner(context, builder, kinds, rows, weights, builder.add(s, _int(corner * TILE + j)))
                total = _fma(builder, weight, builder.load(_at(context, builder, kinds[0], table, row), align=4), total)
            sums.append(total)
        for f, values in enumerate(_turned(builder, sums)):
            place = builder.add(builder.add(xoff, s), _int(f * TILE))
            builder.store(values, _at(context, builder, kinds[4], x, place), align=4)
        return context.get_dummy_value()

    return types.void(table, rows, weights, i, x, i), codegen


@intrinsic
def scatter4(typing: Any, grad: Any, rows: Any, weights: Any, s: Any, dx: Any, dxoff: Any) -> Any:
    """scatter4(grad, rows, weights, s, dx, dxoff): grad[rows[c, s], f] += weights[c, s] dx[f, s] for the corners c in order."""
    i = types.int64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        grad, rows, weights, s, dx, dxoff = args
        kinds = signature.args
        d = ir.Constant(_ROW, ir.Undefined)
        for f in range(WIDTH):
            place = builder.add(builder.add(dxoff, s), _int(f * TILE))
            d = builder.insert_element(d, builder.load(_data(context, builder, kinds[4], dx, place)), ir.Constant(ir.IntType(32), f))
        for corner in range(8):
            row, weight = _corner(context, builder, kinds, rows, weights, builder.add(s, _int(corner * TILE)))
            target = _at(context, builder, kinds[0], grad, row)
            builder.store(_fma(builder, weight, d, builder.load(target, align=4)), target, align=4)
        return context.get_dummy_value()

    return types.void(grad, rows, weights, i, dx, i), codegen
