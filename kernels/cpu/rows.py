"""Table rows of four numbers as vectors: gathered at the eight corners of a cell, and scattered to.

Left to the compiler the four sums of a sample stay scalars, because a tile's arrays might overlap.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import TILE
from .simd import _F32, _data, _int

WIDTH = 4
_ROW = ir.VectorType(_F32, WIDTH)
_PICK = ir.VectorType(ir.IntType(32), WIDTH)
_I32 = ir.IntType(32)


def _splat4(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_ROW, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(_ROW, ir.Undefined), ir.Constant(_PICK, [0] * WIDTH))


def _fma4(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_ROW, [_ROW] * 3), "llvm.fmuladd.v4f32")
    return builder.call(function, [a, b, c])


def _turned(builder: Any, r: list[Any]) -> list[Any]:
    """Four vectors of four, transposed."""
    r = list(r)
    for h in (2, 1):
        low = ir.Constant(_PICK, [lane if not lane & h else WIDTH + lane - h for lane in range(WIDTH)])
        high = ir.Constant(_PICK, [lane + h if not lane & h else WIDTH + lane for lane in range(WIDTH)])
        for j in range(WIDTH):
            if not j & h:
                a, b = r[j], r[j + h]
                r[j], r[j + h] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
    return r


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Address of four consecutive floats."""
    return builder.bitcast(_data(context, builder, kind, array, index), _ROW.as_pointer())


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
                place = builder.add(s, _int(corner * TILE + j))
                row = builder.sext(builder.load(_data(context, builder, kinds[1], rows, place)), ir.IntType(64))
                weight = builder.load(_data(context, builder, kinds[2], weights, place))
                values = builder.load(_at(context, builder, kinds[0], table, builder.mul(row, _int(WIDTH))), align=4)
                total = _fma4(builder, _splat4(builder, weight), values, total)
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
            d = builder.insert_element(d, builder.load(_data(context, builder, kinds[4], dx, place)), ir.Constant(_I32, f))
        for corner in range(8):
            place = builder.add(s, _int(corner * TILE))
            row = builder.sext(builder.load(_data(context, builder, kinds[1], rows, place)), ir.IntType(64))
            weight = builder.load(_data(context, builder, kinds[2], weights, place))
            target = _at(context, builder, kinds[0], grad, builder.mul(row, _int(WIDTH)))
            builder.store(_fma4(builder, _splat4(builder, weight), d, builder.load(target, align=4)), target, align=4)
        return context.get_dummy_value()

    return types.void(grad, rows, weights, i, dx, i), codegen
