"""Sixteen floats as one value: arithmetic on channels that lie next to each other in memory.

A :data:`vec16` lives in a register (one of AVX-512, two of AVX2, four of NEON) and is made
and used only inside compiled code.  ``lanes`` arguments bound what memory is touched: 16 or
more means all, fewer the first so many (the others read 0 and are not written).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from .simd import _I64, _MASKS, _VEC, _ZERO, LANES, _data, _fma, _load, _splat, _store, _turned

_BITS = ir.VectorType(ir.IntType(1), LANES)
_WIDE = ir.VectorType(_I64, LANES)
_I32 = ir.IntType(32)


class Vec16(types.Type):  # type: ignore[misc]
    """Numba's name for <16 x float>."""

    def __init__(self) -> None:
        super().__init__(name="vec16")


vec16 = Vec16()


@register_model(Vec16)
class _Vec16Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VEC)


def _mask(builder: Any, lanes: Any) -> Any:
    """<16 x i1>: lane < lanes."""
    one = builder.insert_element(ir.Constant(_WIDE, ir.Undefined), lanes, ir.Constant(_I32, 0))
    wide = builder.shuffle_vector(one, ir.Constant(_WIDE, ir.Undefined), ir.Constant(_MASKS, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(_WIDE, list(range(LANES))), wide)


@intrinsic
def load16(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """load16(array, index, lanes): ``lanes`` consecutive floats of a flat array; the rest 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0], args[1])
        full = builder.icmp_signed(">=", args[2], ir.Constant(_I64, LANES))
        with builder.if_else(full, likely=True) as (then, otherwise):
            with then:
                whole, whole_block = _load(builder, pointer), builder.block
            with otherwise:
                place = builder.bitcast(pointer, _VEC.as_pointer())
                kind = ir.FunctionType(_VEC, [_VEC.as_pointer(), _I32, _BITS, _VEC])
                function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
                part = builder.call(function, [place, ir.Constant(_I32, 4), _mask(builder, args[2]), _ZERO])
                part_block = builder.block
        value = builder.phi(_VEC)
        value.add_incoming(whole, whole_block)
        value.add_incoming(part, part_block)
        return value

    return vec16(array, types.int64, types.int64), codegen


@intrinsic
def store16(typing: Any, array: Any, index: Any, lanes: Any, value: Any) -> Any:
    """store16(array, index, lanes, value): the first ``lanes`` floats into a flat array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0], args[1])
        full = builder.icmp_signed(">=", args[2], ir.Constant(_I64, LANES))
        with builder.if_else(full, likely=True) as (then, otherwise):
            with then:
                _store(builder, args[3], pointer)
            with otherwise:
                place = builder.bitcast(pointer, _VEC.as_pointer())
                kind = ir.FunctionType(ir.VoidType(), [_VEC, _VEC.as_pointer(), _I32, _BITS])
                function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
                builder.call(function, [args[3], place, ir.Constant(_I32, 4), _mask(builder, args[2])])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, vec16), codegen


@intrinsic
def splat16(typing: Any, value: Any) -> Any:
    """A float32 in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return vec16(types.float32), codegen


def _arithmetic(count: int, emit: Callable[..., Any]) -> Any:
    def typer(typing: Any, *kinds: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, *args)

        return vec16(*([vec16] * count)), codegen

    if count == 2:
        return intrinsic(lambda typing, a, b: typer(typing, a, b))
    return intrinsic(lambda typing, a, b, c: typer(typing, a, b, c))


add16 = _arithmetic(2, lambda builder, a, b: builder.fadd(a, b))
mul16 = _arithmetic(2, lambda builder, a, b: builder.fmul(a, b))
fma16 = _arithmetic(3, _fma)
"""fma16(a, b, c) = a * b + c."""


@intrinsic
def sum16(typing: Any, value: Any) -> Any:
    """The sum of all lanes: halves added to halves, always in this order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = args[0]
        for half in (8, 4, 2, 1):
            left = ir.Constant(ir.VectorType(_I32, half), list(range(half)))
            right = ir.Constant(ir.VectorType(_I32, half), list(range(half, 2 * half)))
            total = builder.fadd(builder.shuffle_vector(total, total, left), builder.shuffle_vector(total, total, right))
        return builder.extract_element(total, ir.Constant(_I32, 0))

    return types.float32(vec16), codegen


@intrinsic
def nonzero16(typing: Any, array: Any, index: Any) -> Any:
    """nonzero16(array, index): bit i of the answer is set where float ``index + i`` of a flat array is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _load(builder, _data(context, builder, signature.args[0], args[0], args[1]))
        bits = builder.bitcast(builder.fcmp_unordered("!=", values, _ZERO), ir.IntType(LANES))
        return builder.zext(bits, _I64)

    return types.int64(array, types.int64), codegen


@intrinsic
def adam16(
    typing: Any, param: Any, grad: Any, m: Any, v: Any, at: Any, mask: Any,
    rate: Any, beta1: Any, beta2: Any, inverse: Any, eps: Any, clear: Any,
) -> Any:  # fmt: skip
    """One Adam step of sixteen numbers from ``at`` on, those whose bit of ``mask`` is set; their gradients become 0 where ``clear``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays, at, mask, numbers, clear = args[:4], args[4], args[5], args[6:11], args[11]
        places = [_data(context, builder, kind, array, at) for kind, array in zip(signature.args[:4], arrays, strict=True)]
        p, g, m, v = (_load(builder, place) for place in places)
        rate, beta1, beta2, inverse, eps = (_splat(builder, number) for number in numbers)
        chosen = builder.bitcast(builder.trunc(mask, ir.IntType(LANES)), _BITS)
        ones = ir.Constant(_VEC, [1.0] * LANES)
        first = _fma(builder, beta1, m, builder.fmul(builder.fsub(ones, beta1), g))
        second = _fma(builder, beta2, v, builder.fmul(builder.fmul(builder.fsub(ones, beta2), g), g))
        root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VEC, [_VEC]), "llvm.sqrt.v16f32")
        below = builder.fadd(builder.call(root, [builder.fmul(second, inverse)]), eps)
        moved = builder.fsub(p, builder.fdiv(builder.fmul(rate, first), below))
        for old, new, place in ((p, moved, places[0]), (m, first, places[2]), (v, second, places[3])):
            _store(builder, builder.select(chosen, new, old), place)
        with builder.if_then(clear):
            _store(builder, builder.select(chosen, _ZERO, g), places[1])
        return context.get_dummy_value()

    f, i = types.float32, types.int64
    return types.void(param, grad, m, v, i, i, f, f, f, f, f, types.boolean), codegen


@intrinsic
def turn(typing: Any, x: Any, xoff: Any, xstride: Any, y: Any, yoff: Any, ystride: Any) -> Any:
    """turn(x, xoff, xstride, y, yoff, ystride): y[j, i] = x[i, j] for 16 x 16 numbers; rows are a stride apart."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = _data(context, builder, signature.args[0], args[0], args[1])
        target = _data(context, builder, signature.args[3], args[3], args[4])
        r = _turned(builder, [_load(builder, builder.gep(source, [builder.mul(ir.Constant(_I64, j), args[2])])) for j in range(LANES)])
        for j in range(LANES):
            _store(builder, r[j], builder.gep(target, [builder.mul(ir.Constant(_I64, j), args[5])]))
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, y, i, i), codegen


__all__ = ["adam16", "add16", "fma16", "load16", "mul16", "nonzero16", "splat16", "store16", "sum16", "turn", "vec16"]
