"""Adam in one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from .runtime import power, programs, serves
from .shadow import current, keep

BLOCK = 1024
WIDEST = 256
"""Numbers in a row, at most, where rows without a gradient are to be left alone."""


@triton.jit(do_not_specialize=["size", "rate", "inverse"])
def adam_kernel(
    param, grad, m, v, half, size, rate, beta1, beta2, inverse, eps, device_rates,
    WIDTH: tl.constexpr, WP: tl.constexpr, ROWS: tl.constexpr, SPARSE: tl.constexpr, CLEAR: tl.constexpr, HALF: tl.constexpr,
    ON_DEVICE: tl.constexpr,
):  # fmt: skip
    """Rows of WIDTH numbers, [ROWS, WP] of them at a time; rate and inverse bias correction from memory where ON_DEVICE."""
    if ON_DEVICE:
        rate = tl.load(device_rates)
        inverse = tl.load(device_rates + 1)
    column = tl.arange(0, WP)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(size, ROWS * WIDTH), tl.num_programs(0)):
        at = (block * ROWS + tl.arange(0, ROWS))[:, None].to(tl.int64) * WIDTH + column
        there = (column < WIDTH) & (at < size)
        g = tl.load(grad + at, mask=there, other=0.0)
        if SPARSE:
            touched = tl.max((g != 0.0).to(tl.int32), 1) > 0
            there = there & touched[:, None]
        first = beta1 * tl.load(m + at, mask=there, other=0.0) + (1.0 - beta1) * g
        second = beta2 * tl.load(v + at, mask=there, other=0.0) + (1.0 - beta2) * g * g
        value = tl.load(param + at, mask=there, other=0.0) - rate * tl.div_rn(first, tl.sqrt_rn(second * inverse) + eps)
        tl.store(m + at, first, mask=there)
        tl.store(v + at, second, mask=there)
        tl.store(param + at, value, mask=there)
        if HALF:
            tl.store(half + at, value.to(tl.float16), mask=there)
        if CLEAR:
            tl.store(grad + at, g * 0.0, mask=there)


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
    rates: Tensor | None = None,  # [2] on the device: lr over the first bias correction, and the second's inverse
) -> None:
    """One Adam step in place; see :func:`reference.adam_`. ``rates`` takes the place of ``step`` and ``lr`` in captured steps."""
    width = param[0].numel() if sparse and param.dim() > 1 and param.shape[0] else 1
    if not serves(param, grad, m, v) or not all(t.is_contiguous() for t in (param, grad, m, v)) or width > WIDEST:
        if rates is not None:
            raise ValueError("rates on the device need contiguous float32 tensors there, of rows that are not too wide")
        reference.adam_(param, grad, m, v, step, lr, betas, eps, sparse, clear)
        return
    if not param.numel():
        return
    half = current(param)
    padded = power(width)
    rows = max(1, BLOCK // padded)
    adam_kernel[programs(triton.cdiv(param.numel(), rows * width), param.device)](
        *(param, grad, m, v, half, param.numel(), lr / (1.0 - betas[0] ** step), betas[0], betas[1], 1.0 / (1.0 - betas[1] ** step), eps),
        rates, WIDTH=width, WP=padded, ROWS=rows, SPARSE=sparse, CLEAR=clear, HALF=half is not None, ON_DEVICE=rates is not None,
    )  # fmt: skip
    torch.autograd.graph.increment_version(param)
    if half is not None:
        keep(param, half)
