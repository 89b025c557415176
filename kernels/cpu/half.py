"""Numbers stored with half precision (IEEE binary16), for fields that are only looked at.

Arrays are uint16 bit patterns. Half the bytes are half the cache lines; arithmetic stays float32.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import _F32, _VEC, LANES, _data
from .vec16 import vec16

_HALF = ir.HalfType()
_HALVES = ir.VectorType(_HALF, LANES)
_FEATURES = llvm.get_host_cpu_features()

FAST = bool(_FEATURES.get("f16c", False) or _FEATURES.get("neon", False) or _FEATURES.get("fp-armv8", False))
"""Whether the CPU has instructions for the conversion."""


@intrinsic
def half_at(typing: Any, array: Any, index: Any) -> Any:
    """half_at(array uint16, index): one number as float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0], args[1])
        return builder.fpext(builder.load(builder.bitcast(pointer, _HALF.as_pointer())), _F32)

    return types.float32(array, types.int64), codegen


@intrinsic
def halves16(typing: Any, array: Any, index: Any) -> Any:
    """halves16(array uint16, index): 16 consecutive numbers as a vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0], args[1])
        return builder.fpext(builder.load(builder.bitcast(pointer, _HALVES.as_pointer()), align=2), _VEC)

    return vec16(array, types.int64), codegen


def aligned(count: int) -> np.ndarray:
    """Room for ``count`` numbers that begins with a cache line."""
    room = np.empty(count + 32, np.uint16)
    skip = (-room.ctypes.data % 64) // 2
    return room[skip : skip + count]
