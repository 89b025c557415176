"""``backbone``: NeRF's wide layers as matrix products of PyTorch's, without autograd's bookkeeping between them.

At 256 columns a product is bound by arithmetic, and the vendor's matrix multiplication is the machine's best: it reaches
twice the FP32 rate with bfloat16 factors where the CPU has them (``avx512_bf16``, ``amx``).  What is left to win lies
around the products: weights are converted once per call, samples go through in tiles whose activations stay in the cache,
nothing is stored that the backward pass does not read, and samples behind a ray's end, whose gradient is zero, are left
out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .. import reference

_TILE = 4096
"""Samples that pass through all layers together: their activations, 4096 x 256 x 2 bytes, fill two level-2 caches."""
_WORTH_DROPPING = 0.9
"""Gather the samples that have a gradient if they are at most this share of all."""


@cache
def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("amx_tile") or found.get("bf16"))


def _layer_inputs(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], skip: int) -> tuple[list[Tensor], Tensor]:
    """What enters each layer, and what leaves the last one."""
    inputs, start = [], x
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if index == skip:
            x = torch.cat([x, start], -1)
        inputs.append(x)
        x = torch.addmm(bias, x, weight.t())
        if index + 1 < len(weights):
            x.relu_()
    return inputs, x


class _Backbone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, start: Tensor, skip: int, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        half = len(parameters) // 2
        weights, biases = [p.to(dtype) for p in parameters[:half]], [p.to(dtype) for p in parameters[half:]]
        needed = any(ctx.needs_input_grad)
        out = start.new_empty(start.shape[0], weights[-1].shape[0])
        kept = []
        for x, part in zip(start.to(dtype).split(_TILE), out.split(_TILE), strict=True):
            inputs, result = _layer_inputs(x, weights, biases, skip)
            part.copy_(result)
            if needed:
                kept.append(inputs)
        ctx.kept, ctx.weights, ctx.skip, ctx.dtype = kept, weights, skip, dtype
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        weights, skip = ctx.weights, ctx.skip
        grads = [torch.zeros(w.shape) for w in weights]
        bias_grads = [torch.zeros(w.shape[0]) for w in weights]
        start_grad = torch.zeros(gradient.shape[0], weights[0].shape[1]) if ctx.needs_input_grad[0] else None
        for tile, (inputs, part) in enumerate(zip(ctx.kept, gradient.split(_TILE), strict=True)):
            live = (part != 0).any(-1).nonzero()[:, 0]
            whole = live.numel() > _WORTH_DROPPING * part.shape[0]
            if not whole:
                inputs, part = [x.index_select(0, live) for x in inputs], part.index_select(0, live)
            if not part.shape[0]:
                continue
            entering = _tile_gradients(inputs, part.to(ctx.dtype), weights, skip, grads, bias_grads, start_grad is not None)
            if start_grad is not None and entering is not None:
                rows = start_grad[tile * _TILE : (tile + 1) * _TILE]
                if whole:
                    rows.copy_(entering)
                else:
                    rows.index_copy_(0, live, entering.float())
        return start_grad, None, None, *grads, *bias_grads


def _tile_gradients(
    inputs: Sequence[Tensor],
    d: Tensor,  # [N, encoded]
    weights: Sequence[Tensor],
    skip: int,
    grads: Sequence[Tensor],
    bias_grads: Sequence[Tensor],
    entering: bool,
) -> Tensor | None:
    """Add one tile's gradients; the sums over tiles are float32.  Returns that of the encoded positions if ``entering``."""
    ones = torch.ones(1, d.shape[0], dtype=d.dtype)
    skipped: Tensor | None = None
    for index in range(len(weights) - 1, -1, -1):
        if index + 1 < len(weights):
            d = torch.ops.aten.threshold_backward(d, inputs[index + 1][:, : d.shape[1]], 0)
        grads[index] += d.t() @ inputs[index]
        bias_grads[index] += (ones @ d)[0]
        if index == 0 and not entering:
            return None
        d = d @ weights[index]
        if index == skip:
            width = weights[index - 1].shape[0]
            d, skipped = d[:, :width], d[:, width:]
    return d if skipped is None else d + skipped


def backbone(
    start: Tensor,  # [N, S]
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    skip: int,
    precision: str = "float32",
) -> Tensor:
    """Wide layers [N, encoded]; see :func:`reference.backbone`. "auto" is bfloat16 where this CPU has instructions for it.

    Differentiable once in everything.
    """
    if start.dtype != torch.float32 or start.device.type != "cpu" or any(w.dtype != torch.float32 for w in weights):
        return reference.backbone(start, weights, biases, skip, precision)
    half = precision == "bfloat16" or (precision == "auto" and bfloat16_is_fast())
    result: Tensor = _Backbone.apply(start, skip, torch.bfloat16 if half else torch.float32, *weights, *biases)
    return result
