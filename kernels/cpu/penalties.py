"""``mean_abs``: the L1 penalty of large factors, which as single tensor operations would cost more than rendering a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..dispatch import gradients_are_in_place
from .gradients import table_gradients
from .jit import kernel
from .plan import flat
from .pool import launch
from .simd import fetch_add

_CHUNK = 1 << 16
"""Numbers a thread takes at once, and sums together: fixed, so that the total does not depend on the threads."""
_F0 = np.float32(0.0)


@kernel
def _sum_abs(values, sums, counter):  # type: ignore[no-untyped-def]
    """One thread's share: sums[i] of chunk i."""
    while True:
        chunk = fetch_add(counter, 0, 1)
        if chunk >= sums.shape[0]:
            break
        total = _F0
        for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, values.shape[0])):
            total += abs(values[i])
        sums[chunk] = total


@kernel
def _add_sign(values, weight, gradient, counter):  # type: ignore[no-untyped-def]
    """One thread's share: gradient += weight * sign(values)."""
    while True:
        start = fetch_add(counter, 0, 1) * _CHUNK
        if start >= values.shape[0]:
            break
        for i in range(start, min(start + _CHUNK, values.shape[0])):
            v = values[i]
            gradient[i] += weight if v > _F0 else (-weight if v < _F0 else _F0)


class _MeanAbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, in_place: bool) -> Tensor:
        chunks = -(-values.numel() // _CHUNK)
        sums = np.empty(chunks, np.float32)
        launch(_sum_abs, flat(values), sums, np.zeros(1, np.int64), most=chunks)
        ctx.save_for_backward(values)
        ctx.in_place = in_place
        return torch.tensor(sums.sum(dtype=np.float64) / values.numel(), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        grads, returned = table_gradients((values,), ctx.needs_input_grad, ctx.in_place)
        if grads is not None:
            weight = np.float32(float(gradient) / values.numel())
            launch(_add_sign, flat(values), weight, grads[0], np.zeros(1, np.int64), most=-(-values.numel() // _CHUNK))
        return returned[0], None


def mean_abs(values: Tensor) -> Tensor:
    """Mean absolute value of a tensor; see :func:`reference.mean_abs`."""
    if values.dtype != torch.float32 or values.device.type != "cpu" or not values.is_contiguous() or not values.numel():
        return reference.mean_abs(values)
    out: Tensor = _MeanAbs.apply(values, gradients_are_in_place())
    return out
