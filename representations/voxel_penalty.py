"""Plenoxels' priors on a few voxels at a time: value and gradient in one pass, so that a step pays for the rows it looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

EPSILON = 1e-9


class _Penalty(torch.autograd.Function):
    """Forward works out the gradient too, in NumPy: these arrays are too small to be worth waking other threads for."""

    @staticmethod
    def forward(
        ctx: Any, density: Tensor, sh: Tensor, here: Tensor, neighbours: Tensor, tv_density: float, tv_sh: float, sparsity: float
    ) -> Tensor:
        rows = torch.cat([here[:, None], neighbours], -1)  # [n, 4]
        missing = (rows < 0).cpu().numpy()
        ctx.rows = rows.clamp_min(0).view(-1)
        ctx.shapes = density.shape, sh.shape
        s = density.detach()[ctx.rows].view(rows.shape).cpu().numpy()[..., None]
        value, ctx.density_grad = _variation(s, missing, tv_density)
        if sparsity:
            squared = 2.0 * np.exp(2.0 * np.minimum(s[:, 0, 0], 15.0))
            value += sparsity * float(np.log1p(squared).mean())
            ctx.density_grad[:, 0, 0] += np.where(s[:, 0, 0] < 15.0, sparsity / len(s) * 2.0 * squared / (1.0 + squared), 0.0)
        ctx.sh_grad = None
        if tv_sh:
            coefficients = sh.detach()[ctx.rows].view(*rows.shape, -1).cpu().numpy()
            more, ctx.sh_grad = _variation(coefficients, missing, tv_sh)
            value += more
        return density.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        density_shape, sh_shape = ctx.shapes

        def sparse(values: np.ndarray[Any, Any], shape: torch.Size) -> Tensor:
            numbers = torch.from_numpy(values).to(grad).mul_(grad).view(-1, *shape[1:])
            return torch.sparse_coo_tensor(ctx.rows[None], numbers, shape, check_invariants=False)

        sh_grad = None if ctx.sh_grad is None else sparse(ctx.sh_grad, sh_shape)
        return sparse(ctx.density_grad, density_shape), sh_grad, None, None, None, None, None


def _variation(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], weight: float) -> tuple[float, np.ndarray[Any, Any]]:
    """weight * mean of sqrt(sum over axes of squared differences) of values [n, 4, C] (self, +x, +y, +z), and its gradient."""
    grad = np.zeros_like(values)
    if not weight:
        return 0.0, grad
    difference = values[:, 1:] - values[:, :1]
    difference[missing[:, 1:]] = 0.0
    length = np.sqrt(np.square(difference).sum(1) + EPSILON)
    grad[:, 1:] = difference * (weight / length.size) / length[:, None]
    grad[:, 0] = -grad[:, 1:].sum(1)
    return weight * float(length.mean()), grad


def voxel_penalty(
    density: Tensor,  # [rows] raw log density
    sh: Tensor,  # [rows, C]
    here: Tensor,  # [n] int64 rows to look at
    neighbours: Tensor,  # [n, 3] their neighbours' rows along x, y, z; -1: none
    tv_density: float,
    tv_sh: float,
    sparsity: float,
) -> Tensor:
    """Total variation of both (Plenoxels, eq. 3) and log(1 + 2 exp(s)^2), each a mean over the rows times its weight.

    Differentiable once; the gradients are sparse tensors.
    """
    return _Penalty.apply(density, sh, here, neighbours, tv_density, tv_sh, sparsity)  # type: ignore[no-untyped-call]
