from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fieldmorph.training.metrics import psnr, ssim


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = rng.random((40, 33, 3))
    noisy = np.clip(image + 0.1 * rng.standard_normal(image.shape), 0, 1)
    return torch.from_numpy(image), torch.from_numpy(noisy)


def test_psnr_of_a_known_error() -> None:
    assert psnr(torch.zeros(4, 4, 3), torch.full((4, 4, 3), 0.1)) == pytest.approx(20.0, abs=1e-5)
    assert psnr(torch.ones(2, 2, 3), torch.ones(2, 2, 3)) == math.inf


def test_ssim_agrees_with_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    a, b = pair
    expected = structural_similarity(
        a.numpy(), b.numpy(), data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)
    assert ssim(a, a) == pytest.approx(1.0)


def test_ssim_refuses_other_shapes(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(pair[0], pair[1][:-1])
    with pytest.raises(ValueError, match="11x11"):
        ssim(pair[0][:5], pair[1][:5])
