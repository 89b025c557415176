"""``composite_times``: emission and absorption along packed rays, at many times at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..reference_times import TimedPixels
from ..reference_times import composite_times as reference_composite
from .jit import kernel
from .marching import array32
from .maths import density32, density_slope, exp32, opacity32, sigmoid32
from .pool import launch
from .simd import fetch_add

_F0, _F1 = np.float32(0.0), np.float32(1.0)
_RAYS = 16
"""Rays a thread takes at once."""


@kernel
def _forward(density, rgb, log_density, logits, index, delta, offsets, termination, color, weights, behind, pixels, opacity, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the rays. color [D, 3, F]; weights and behind (transmittance after the sample) [M, F]."""
    count, times = offsets.shape[0] - 1, log_density.shape[1]
    through = np.zeros(times, np.float32)
    while True:
        first = fetch_add(counter, 0, 1) * _RAYS
        if first >= count:
            break
        for r in range(first, min(first + _RAYS, count)):
            for f in range(times):
                through[f], opacity[r, f] = _F1, _F0
                pixels[r, 0, f], pixels[r, 1, f], pixels[r, 2, f] = _F0, _F0, _F0
            for i in range(offsets[r], offsets[r + 1]):
                k, length = index[i], delta[i]
                if k < 0:
                    j = -k - 1
                    optical = density[j] * length
                    kept = exp32(-optical)
                    alpha = opacity32(optical, kept)
                    a, b, c = rgb[j, 0], rgb[j, 1], rgb[j, 2]
                    for f in range(times):
                        before = through[f]
                        live = before >= termination
                        w = before * alpha if live else _F0
                        after = before * kept
                        weights[i, f] = w
                        behind[i, f] = after if live else _F0
                        through[f] = after if live else before
                        pixels[r, 0, f] += w * a
                        pixels[r, 1, f] += w * b
                        pixels[r, 2, f] += w * c
                        opacity[r, f] += w
                else:
                    for f in range(times):
                        optical = density32(log_density[k, f]) * length
                        kept = exp32(-optical)
                        before = through[f]
                        live = before >= termination
                        w = before * opacity32(optical, kept) if live else _F0
                        after = before * kept
                        weights[i, f] = w
                        behind[i, f] = after if live else _F0
                        through[f] = after if live else before
                        opacity[r, f] += w
                    for channel in range(3):
                        for f in range(times):
                            value = sigmoid32(logits[k, channel, f])
                            color[k, channel, f] = value
                            pixels[r, channel, f] += weights[i, f] * value


@kernel
def _backward(rgb, log_density, index, delta, offsets, color, weights, behind, dpixels, dopacity, dlog, dlogits, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the rays, each from its last sample to its first."""
    count, times = offsets.shape[0] - 1, log_density.shape[1]
    later, gain = np.zeros(times, np.float32), np.zeros(times, np.float32)
    while True:
        first = fetch_add(counter, 0, 1) * _RAYS
        if first >= count:
            break
        for r in range(first, min(first + _RAYS, count)):
            later[:] = _F0
            for back in range(offsets[r + 1] - offsets[r]):
                i = offsets[r + 1] - 1 - back
                k, length = index[i], delta[i]
                if k < 0:
                    j = -k - 1
                    a, b, c = rgb[j, 0], rgb[j, 1], rgb[j, 2]
                    for f in range(times):
                        whole = dpixels[r, 0, f] * a + dpixels[r, 1, f] * b + dpixels[r, 2, f] * c + dopacity[r, f]
                        later[f] += weights[i, f] * whole
                else:
                    for f in range(times):
                        gain[f] = dopacity[r, f]
                    for channel in range(3):
                        for f in range(times):
                            value, d = color[k, channel, f], dpixels[r, channel, f]
                            gain[f] += d * value
                            dlogits[k, channel, f] = weights[i, f] * d * value * (_F1 - value)
                    for f in range(times):
                        dlog[k, f] = (behind[i, f] * gain[f] - later[f]) * length * density_slope(log_density[k, f])
                        later[f] += weights[i, f] * gain[f]


class _CompositeTimes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: np.ndarray, rgb: np.ndarray, log_density: Tensor, logits: Tensor, along: tuple[np.ndarray, ...], limit: float
    ) -> Any:
        index, delta, offsets = along
        rays, samples, times = offsets.shape[0] - 1, index.shape[0], log_density.shape[1]
        pixels, opacity = torch.empty(rays, 3, times), torch.empty(rays, times)
        color = np.empty((log_density.shape[0], 3, times), np.float32)
        weights, behind = np.empty((samples, times), np.float32), np.empty((samples, times), np.float32)
        launch(
            _forward, density, rgb, array32(log_density), array32(logits), index, delta, offsets, np.float32(limit), color, weights,
            behind, pixels.numpy(), opacity.numpy(), np.zeros(1, np.int64), most=-(-rays // _RAYS),
        )  # fmt: skip
        ctx.save_for_backward(log_density)
        ctx.kept = rgb, along, color, weights, behind
        return pixels, opacity

    @staticmethod
    def backward(ctx: Any, dpixels: Tensor, dopacity: Tensor) -> Any:  # type: ignore[override]
        (log_density,) = ctx.saved_tensors
        rgb, along, color, weights, behind = ctx.kept
        dlog, dlogits = torch.zeros(log_density.shape), torch.zeros(color.shape)
        launch(
            _backward, rgb, array32(log_density), *along, color, weights, behind, array32(dpixels), array32(dopacity), dlog.numpy(),
            dlogits.numpy(), np.zeros(1, np.int64), most=-(-(along[2].shape[0] - 1) // _RAYS),
        )  # fmt: skip
        return None, None, dlog, dlogits, None, None


def composite_times(
    density: Tensor,  # [S]
    rgb: Tensor,  # [S, 3]
    log_density: Tensor,  # [D, F]
    logits: Tensor,  # [D, 3, F]
    index: Tensor,  # [M] int64
    delta: Tensor,  # [M]
    offsets: Tensor,  # [R + 1] int64
    termination: float = 1e-4,
) -> TimedPixels:
    """Rays at F times together; see :func:`reference_times.composite_times`. Differentiable in log_density and logits."""
    numbers = (density, rgb, log_density, logits, delta)
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in numbers) or delta.requires_grad:
        return reference_composite(density, rgb, log_density, logits, index, delta, offsets, termination)
    along = (index.contiguous().numpy(), array32(delta), offsets.contiguous().numpy())
    return TimedPixels(*_CompositeTimes.apply(array32(density), array32(rgb), log_density, logits, along, termination))
