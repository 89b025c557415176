"""Image metrics. PSNR and SSIM follow the definitions that papers of this field report."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images in [0, 1]; infinite where they are equal."""
    mse = float(torch.mean((image.double() - target.double()) ** 2))
    return math.inf if mse == 0.0 else -10.0 * math.log10(mse)


def mse_to_psnr(mse: float) -> float:
    return -10.0 * math.log10(max(mse, 1e-10))


def _gaussian(size: int, sigma: float) -> Tensor:
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def ssim(image: Tensor, target: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of two [H, W, C] images in [0, 1].

    11x11 Gaussian window of sigma 1.5, population covariance, data range 1, mean over
    channels and over the pixels whose window lies inside the image: what scikit-image
    computes with ``gaussian_weights=True, use_sample_covariance=False``.

    Raises:
        ValueError: the images differ in shape or are smaller than the window.
    """
    if image.shape != target.shape or min(image.shape[:2]) < 11:
        raise ValueError(f"SSIM needs two images of one shape, at least 11x11; got {tuple(image.shape)} and {tuple(target.shape)}")
    window = _gaussian(11, 1.5).to(image.device)
    x, y = (i.double().permute(2, 0, 1)[:, None] for i in (image, target))

    def blur(z: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(z, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(score.mean())
