"""``composite``: emission and absorption along packed rays, for families that are evaluated outside the fused renderer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..reference import Composited
from .jit import kernel
from .marching import array32
from .maths import exp32, opacity32
from .pool import launch
from .simd import fetch_add

_F0, _F1 = np.float32(0.0), np.float32(1.0)
_RAYS = 128


@kernel
def _forward(density, rgb, t, delta, offsets, termination, color, depth, opacity, weights, behind, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the rays; behind [M] is the transmittance after each sample."""
    count = offsets.shape[0] - 1
    while True:
        first = fetch_add(counter, 0, 1) * _RAYS
        if first >= count:
            break
        for r in range(first, min(first + _RAYS, count)):
            through = _F1
            red, green, blue, far, total = _F0, _F0, _F0, _F0, _F0
            for i in range(offsets[r], offsets[r + 1]):
                if through < termination:
                    weights[i], behind[i] = _F0, _F0
                    continue
                optical = density[i] * delta[i]
                kept = exp32(-optical)
                w = through * opacity32(optical, kept)
                through *= kept
                weights[i], behind[i] = w, through
                red += w * rgb[i, 0]
                green += w * rgb[i, 1]
                blue += w * rgb[i, 2]
                far += w * t[i]
                total += w
            color[r, 0], color[r, 1], color[r, 2] = red, green, blue
            depth[r], opacity[r] = far, total


@kernel
def _backward(rgb, t, delta, offsets, weights, behind, dcolor, ddepth, dopacity, dweights, ddensity, drgb, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the rays, each from its last sample to its first."""
    count = offsets.shape[0] - 1
    while True:
        first = fetch_add(counter, 0, 1) * _RAYS
        if first >= count:
            break
        for r in range(first, min(first + _RAYS, count)):
            later = _F0
            a, b, c = dcolor[r, 0], dcolor[r, 1], dcolor[r, 2]
            for back in range(offsets[r + 1] - offsets[r]):
                i = offsets[r + 1] - 1 - back
                w = weights[i]
                if w == _F0 and behind[i] == _F0:  # behind the termination, or opaque before it
                    ddensity[i], drgb[i, 0], drgb[i, 1], drgb[i, 2] = _F0, _F0, _F0, _F0
                    continue
                gain = a * rgb[i, 0] + b * rgb[i, 1] + c * rgb[i, 2] + ddepth[r] * t[i] + dopacity[r] + dweights[i]
                ddensity[i] = (behind[i] * gain - later) * delta[i]
                later += w * gain
                drgb[i, 0], drgb[i, 1], drgb[i, 2] = w * a, w * b, w * c


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, rgb: Tensor, t: Tensor, delta: Tensor, offsets: Tensor, termination: float) -> Any:
        rays, samples = offsets.shape[0] - 1, density.shape[0]
        color, depth, opacity, weights = torch.empty(rays, 3), torch.empty(rays), torch.empty(rays), torch.empty(samples)
        behind = np.empty(samples, np.float32)
        launch(
            _forward, array32(density), array32(rgb), array32(t), array32(delta), offsets.numpy(), np.float32(termination),
            color.numpy(), depth.numpy(), opacity.numpy(), weights.numpy(), behind, np.zeros(1, np.int64), most=-(-rays // _RAYS),
        )  # fmt: skip
        ctx.save_for_backward(rgb, t, delta, offsets, weights)
        ctx.behind = behind
        return color, depth, opacity, weights

    @staticmethod
    def backward(ctx: Any, dcolor: Tensor, ddepth: Tensor, dopacity: Tensor, dweights: Tensor) -> Any:  # type: ignore[override]
        rgb, t, delta, offsets, weights = ctx.saved_tensors
        ddensity, drgb = torch.empty_like(weights), torch.empty(rgb.shape)
        launch(
            _backward, array32(rgb), array32(t), array32(delta), offsets.numpy(), weights.detach().numpy(), ctx.behind, array32(dcolor),
            array32(ddepth), array32(dopacity), array32(dweights), ddensity.numpy(), drgb.numpy(), np.zeros(1, np.int64),
            most=-(-(offsets.shape[0] - 1) // _RAYS),
        )  # fmt: skip
        return ddensity, drgb, None, None, None, None


def composite(
    density: Tensor,  # [M] per normalised length
    rgb: Tensor,  # [M, 3]
    t: Tensor,  # [M]
    delta: Tensor,  # [M] normalised length
    offsets: Tensor,  # [R + 1] int64
    termination: float = 1e-4,
) -> Composited:
    """Packed rays to pixels; see :func:`reference.composite`. Differentiable in density and rgb, through every output."""
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in (density, rgb, t, delta)) or t.requires_grad or delta.requires_grad:
        return reference.composite(density, rgb, t, delta, offsets, termination)
    return Composited(*_Composite.apply(density, rgb, t, delta, offsets.contiguous(), termination))
