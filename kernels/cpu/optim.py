"""Adam in one pass over memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import reference
from .jit import kernel
from .pool import launch
from .simd import LANES, fetch_add
from .vec16 import adam16, nonzero16

_CHUNK = 4096
"""Rows a thread takes at once."""
_F0 = np.float32(0.0)


@kernel
def adam_rows(param, grad, m, v, width, rate, beta1, beta2, inverse, eps, sparse, clear, counter):  # type: ignore[no-untyped-def]
    """One thread's share. All arrays flat; ``width`` numbers make a row; rows of zero gradient are skipped when ``sparse``."""
    size = param.shape[0]
    chunk = _CHUNK * width
    a1, a2 = np.float32(1.0) - beta1, np.float32(1.0) - beta2
    whole = LANES % width == 0  # then sixteen numbers at once are whole rows
    every = (1 << width) - 1 if whole else 1  # the bits of a row
    firsts = ((1 << LANES) - 1) // every
    while True:
        start = fetch_add(counter, 0, 1) * chunk
        if start >= size:
            break
        stop = min(start + chunk, size)
        if not sparse:
            for i in range(start, stop):
                g = grad[i]
                m[i] = beta1 * m[i] + a1 * g
                v[i] = beta2 * v[i] + a2 * g * g
                param[i] -= rate * m[i] / (np.sqrt(v[i] * inverse) + eps)
            if clear:
                grad[start:stop] = _F0
            continue
        blocks = (stop - start) // LANES if whole else 0
        for block in range(blocks):
            at = start + block * LANES
            touches = nonzero16(grad, at)
            if touches == 0:
                continue
            reach = 1
            while reach < width:
                touches |= touches >> reach
                reach *= 2
            adam16(param, grad, m, v, at, (touches & firsts) * every, rate, beta1, beta2, inverse, eps, clear)
        for row in range(start + blocks * LANES, stop, width):
            touched = False
            for i in range(row, row + width):
                touched = touched or grad[i] != _F0
            if touched:
                for i in range(row, row + width):
                    g = grad[i]
                    m[i] = beta1 * m[i] + a1 * g
                    v[i] = beta2 * v[i] + a2 * g * g
                    param[i] -= rate * m[i] / (np.sqrt(v[i] * inverse) + eps)
                    if clear:
                        grad[i] = _F0


@torch.no_grad()
def adam_(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
    sparse: bool = False,
    clear: bool = False,
) -> None:
    """One Adam step in place; see :func:`reference.adam_`. ``clear`` leaves ``grad`` zero, for the next step to add to."""
    tensors = (param, grad, m, v)
    if any(t.dtype != torch.float32 or not t.is_contiguous() or t.device.type != "cpu" for t in tensors):
        reference.adam_(param, grad, m, v, step, lr, betas, eps, sparse)
        if clear:
            grad.zero_()
        return
    f = np.float32
    width = param[0].numel() if sparse and param.dim() > 1 and param.shape[0] else 1
    arrays = [t.detach().view(-1).numpy() for t in tensors]
    launch(
        adam_rows, *arrays, width, f(lr / (1.0 - betas[0] ** step)), f(betas[0]), f(betas[1]), f(1.0 / (1.0 - betas[1] ** step)),
        f(eps), sparse, clear, np.zeros(1, np.int64), most=-(-param.numel() // (_CHUNK * width)),
    )  # fmt: skip
    torch.autograd.graph.increment_version(param)
