"""The definition of compositing over many times at once (MixVoxels, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .reference_march import transmittance


class TimedPixels(NamedTuple):
    """What R rays see at F times, premultiplied, without a background."""

    rgb: Tensor  # [R, 3, F]
    opacity: Tensor  # [R, F]


def composite_times(
    density: Tensor,  # [S] of the samples that stand still, per normalised length
    rgb: Tensor,  # [S, 3] their colours
    log_density: Tensor,  # [D, F] of the samples that move, at F times
    logits: Tensor,  # [D, 3, F] their colours before the sigmoid
    index: Tensor,  # [M] int64: of each sample, k >= 0: row k of those that move; k < 0: row -k - 1 of those that stand still
    delta: Tensor,  # [M] normalised length
    offsets: Tensor,  # [R + 1] int64: ray r owns samples offsets[r]:offsets[r + 1], front to back
    termination: float = 1e-4,
) -> TimedPixels:
    """Emission and absorption along packed rays, at F times together; every row of ``log_density`` belongs to one sample.

    A ray stops, time by time, before the first sample whose transmittance is below ``termination``.  Differentiable in
    ``log_density`` (as :func:`truncated_exp` is) and ``logits``; what stands still counts as constant (detached).
    """
    from .reference import truncated_exp

    moving = index >= 0
    row = torch.where(moving, index, -index - 1)
    times = log_density.shape[1]
    sigma = log_density.new_empty(index.shape[0], times)
    color = log_density.new_empty(index.shape[0], 3, times)
    still, moves = (~moving).nonzero()[:, 0], moving.nonzero()[:, 0]
    sigma = sigma.index_copy(0, still, density.detach().index_select(0, row[still])[:, None].expand(-1, times))
    sigma = sigma.index_copy(0, moves, truncated_exp(log_density.index_select(0, row[moves])))
    color = color.index_copy(0, still, rgb.detach().index_select(0, row[still])[:, :, None].expand(-1, -1, times))
    color = color.index_copy(0, moves, torch.sigmoid(logits.index_select(0, row[moves])))
    counts = offsets.diff()
    rays = torch.repeat_interleave(torch.arange(counts.shape[0], device=index.device), counts)
    weights = []
    for f in range(times):
        through, alpha = transmittance(sigma[:, f], delta, offsets)
        weights.append(torch.where(through >= termination, through * alpha, torch.zeros_like(alpha)))
    weight = torch.stack(weights, -1) if weights else sigma
    pixels = sigma.new_zeros(counts.shape[0], 3, times).index_add(0, rays, weight[:, None] * color)
    return TimedPixels(pixels, sigma.new_zeros(counts.shape[0], times).index_add(0, rays, weight))
