"""The few operations written as vector instructions: dense layers, transposes, weight gradients.

All work on tiles of 64 samples in flat float32 arrays with an offset, and are portable
LLVM vectors of 16 floats: one AVX-512 register, two of AVX2, four of NEON.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import TILE

LANES = 16
_I64 = ir.IntType(64)
_F32 = ir.FloatType()
_VEC = ir.VectorType(_F32, LANES)
_MASKS = ir.VectorType(ir.IntType(32), LANES)

_WIDE = bool(llvm.get_host_cpu_features().get("avx512f", False))
# Accumulators that stay in registers: outputs x vectors of a tile. 32 registers of 512 bits hold 4 x 4; AVX2's 16 hold 4 x 1 (8 halves).
OUTPUTS = 4
_VECTORS = 4 if _WIDE else 1
_WIDTH = 2 if _WIDE else 1


def _data(context: Any, builder: Any, kind: Any, value: Any, offset: Any) -> Any:
    array = context.make_array(kind)(context, builder, value)
    return builder.gep(array.data, [offset])


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _VEC.as_pointer()), align=4)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, _VEC.as_pointer()), align=4)


def _pick(lanes: list[int]) -> Any:
    """The mask of a shuffle."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def _splat(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    nothing = ir.Constant(ir.VectorType(_F32, lanes), ir.Undefined)
    one = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, nothing, _pick([0] * lanes))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = a.type
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.v{kind.count}f32")
    return builder.call(function, [a, b, c])


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """As many vectors as each has lanes (a power of two), transposed."""
    r, lanes = list(rows), len(rows)
    h = lanes // 2
    while h:
        low = _pick([lane if not lane & h else lanes + lane - h for lane in range(lanes)])
        high = _pick([lane + h if not lane & h else lanes + lane for lane in range(lanes)])
        for j in range(lanes):
            if not j & h:
                a, b = r[j], r[j + h]
                r[j], r[j + h] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
        h //= 2
    return r


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)


_ZERO = ir.Constant(_VEC, [0.0] * LANES)


def _dense(epilogue: str) -> Any:
    def typer(
        typing: Any, w: Any, woff: Any, so: Any, si: Any, x: Any, xoff: Any, y: Any, yoff: Any, a: Any, aoff: Any, n_out: Any, n_in: Any
    ) -> Any:
        i = types.int64
        sig = types.void(w, i, i, i, x, i, y, i, a, i, i, i)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (w, woff, so, si, x, xoff, y, yoff, a, aoff, n_out, n_in) = args
            kinds = signature.args
            weights, source = _data(context, builder, kinds[0], w, woff), _data(context, builder, kinds[4], x, xoff)
            target, gate = _data(context, builder, kinds[6], y, yoff), _data(context, builder, kinds[8], a, aoff)
            sums = [[cgutils.alloca_once(builder, _VEC) for _ in range(_VECTORS)] for _ in range(OUTPUTS)]
            blocks = builder.udiv(n_out, _int(OUTPUTS))
            with cgutils.for_range(builder, blocks, intp=_I64) as outer:
                first = builder.mul(outer.index, _int(OUTPUTS))
                rows = [builder.gep(weights, [builder.mul(builder.add(first, _int(o)), so)]) for o in range(OUTPUTS)]
                for block in range(TILE // LANES // _VECTORS):
                    shift = block * _VECTORS * LANES
                    for row in sums:
                        for cell in row:
                            builder.store(_ZERO, cell)
                    with cgutils.for_range(builder, n_in, intp=_I64) as inner:
                        base = builder.gep(source, [builder.add(builder.mul(inner.index, _int(TILE)), _int(shift))])
                        values = [_load(builder, builder.gep(base, [_int(v * LANES)])) for v in range(_VECTORS)]
                        column = builder.mul(inner.index, si)
                        for o in range(OUTPUTS):
                            weight = _splat(builder, builder.load(builder.gep(rows[o], [column])))
                            for v in range(_VECTORS):
                                builder.store(_fma(builder, weight, values[v], builder.load(sums[o][v])), sums[o][v])
                    for o in range(OUTPUTS):
                        for v in range(_VECTORS):
                            place = builder.add(builder.mul(builder.add(first, _int(o)), _int(TILE)), _int(shift + v * LANES))
                            total = builder.load(sums[o][v])
                            if epilogue == "relu":
                                total = builder.select(builder.fcmp_ordered(">", total, _ZERO), total, _ZERO)
                            elif epilogue == "gate":
                                on = builder.fcmp_ordered(">", _load(builder, builder.gep(gate, [place])), _ZERO)
                                total = builder.select(on, total, _ZERO)
                            _store(builder, total, builder.gep(target, [place]))
            return context.get_dummy_value()

        return sig, codegen

    return typer


dense = intrinsic(_dense("none"))
"""dense(w, woff, so, si, x, xoff, y, yoff, a, aoff, n_out, n_in): y[o] = sum_i w[o * so + i * si] x[i] on a tile; n_out a multiple of 4."""
dense_relu = intrinsic(_dense("relu"))
"""As ``dense``, negative sums become 0."""
dense_gate = intrinsic(_dense("gate"))
"""As ``dense``, sums are kept where a > 0 (the derivative of ReLU), else 0."""


@intrinsic
def transpose(typing: Any, x: Any, xoff: Any, y: Any, yoff: Any, rows: Any) -> Any:
    """transpose(x, xoff, y, yoff, rows): x [rows, 64] -> y [64, rows]; rows a multiple of 16."""
    i = types.int64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, xoff, y, yoff, rows = args
        source, target = _data(context, builder, signature.args[0], x, xoff), _data(context, builder, signature.args[2], y, yoff)
        blocks = builder.udiv(rows, _int(LANES))
        with cgutils.for_range(builder, blocks, intp=_I64) as row, cgutils.for_range(builder, _int(TILE // LANES), intp=_I64) as column:
            down, across = builder.mul(row.index, _int(LANES)), builder.mul(column.index, _int(LANES))
            corners = [builder.add(builder.mul(builder.add(down, _int(j)), _int(TILE)), across) for j in range(LANES)]
            r = _turned(builder, [_load(builder, builder.gep(source, [corner])) for corner in corners])
            for j in range(LANES):
                place = builder.add(builder.mul(builder.add(across, _int(j)), rows), down)
                _store(builder, r[j], builder.gep(target, [place]))
        return context.get_dummy_value()

    return types.void(x, i, y, i, i), codegen


@intrinsic
def outer_add(typing: Any, d: Any, doff: Any, xt: Any, xoff: Any, g: Any, goff: Any, n_out: Any, n_in: Any) -> Any:
    """outer_add(d, doff, xt, xoff, g, goff, n_out, n_in): g[o, i] += sum_s d[o, s] xt[s, i].

    n_out a multiple of 4, n_in of 16 (of 32 is fastest).
    """
    i = types.int64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        d, doff, xt, xoff, g, goff, n_out, n_in = args
        kinds = signature.args
        grads, source = _data(context, builder, kinds[0], d, doff), _data(context, builder, kinds[2], xt, xoff)
        target = _data(context, builder, kinds[4], g, goff)
        sums = [[cgutils.alloca_once(builder, _VEC) for _ in range(_WIDTH)] for _ in range(OUTPUTS)]

        def block(first: Any, start: Any, width: int) -> None:
            for o in range(OUTPUTS):
                for v in range(width):
                    builder.store(_ZERO, sums[o][v])
            with cgutils.for_range(builder, _int(TILE), intp=_I64) as sample:
                base = builder.gep(source, [builder.add(builder.mul(sample.index, n_in), start)])
                values = [_load(builder, builder.gep(base, [_int(v * LANES)])) for v in range(width)]
                for o in range(OUTPUTS):
                    at = builder.add(builder.mul(builder.add(first, _int(o)), _int(TILE)), sample.index)
                    weight = _splat(builder, builder.load(builder.gep(grads, [at])))
                    for v in range(width):
                        builder.store(_fma(builder, weight, values[v], builder.load(sums[o][v])), sums[o][v])
            for o in range(OUTPUTS):
                for v in range(width):
                    at = builder.add(builder.add(builder.mul(builder.add(first, _int(o)), n_in), start), _int(v * LANES))
                    pointer = builder.gep(target, [at])
                    _store(builder, builder.fadd(_load(builder, pointer), builder.load(sums[o][v])), pointer)

        wide = builder.udiv(n_in, _int(LANES * _WIDTH))
        with cgutils.for_range(builder, builder.udiv(n_out, _int(OUTPUTS)), intp=_I64) as row:
            first = builder.mul(row.index, _int(OUTPUTS))
            with cgutils.for_range(builder, wide, intp=_I64) as column:
                block(first, builder.mul(column.index, _int(LANES * _WIDTH)), _WIDTH)
            if _WIDTH > 1:
                done = builder.mul(wide, _int(LANES * _WIDTH))
                with builder.if_then(builder.icmp_unsigned("<", done, n_in)):
                    block(first, done, 1)
        return context.get_dummy_value()

    return types.void(d, i, xt, i, g, i, i, i), codegen


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """prefetch(array, index): ask for the cache line of flat element ``index`` of a contiguous array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.bitcast(_data(context, builder, signature.args[0], args[0], args[1]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, ir.Constant(i32, 0), ir.Constant(i32, 3), ir.Constant(i32, 1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic
def fetch_add(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """fetch_add(array int64, index, value): atomic ``array[index] += value``, returns what was there; hands out work to threads."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def load_volatile(typing: Any, array: Any, index: Any) -> Any:
    """load_volatile(array int64, index): read memory another thread may have written (the cancel flag)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "monotonic", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def float_bits(typing: Any, value: Any) -> Any:
    """The float32 whose bit pattern is this int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _F32)

    return types.float32(types.int32), codegen


def _reader(kind: Any, bits: Any) -> Any:
    def typer(typing: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(builder.gep(builder.inttoptr(args[0], bits.as_pointer()), [args[1]]))

        return kind(types.int64, types.int64), codegen

    return typer


float_at = intrinsic(_reader(types.float32, _F32))
"""float_at(address, index): element of a float32 array known by its address. An array's own variable costs atomic reference counts."""
byte_at = intrinsic(_reader(types.uint8, ir.IntType(8)))
"""byte_at(address, index): element of a uint8 array known by its address."""
