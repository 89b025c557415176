"""The loss of photographs with alpha: the expectation over random backgrounds, without drawing any."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldmorph.render.types import Rays
from fieldmorph.training.batches import Batch
from fieldmorph.training.trainer import RandomBackground, expected_error


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def batch(count: int) -> Batch:
    return Batch(Rays(torch.zeros(count, 3), torch.ones(count, 3)), random(count, 3, seed=0), random(count, seed=1))


def test_it_is_the_mean_over_many_draws() -> None:
    photographs, opacity = batch(40), random(40, seed=2)
    rgb = random(40, 3, seed=3) * opacity[:, None]
    drawn, source = [], RandomBackground(torch.device("cpu"))
    generator = torch.Generator().manual_seed(4)
    for _ in range(4000):
        behind = source(40, generator)
        drawn.append(((rgb + (1.0 - opacity)[:, None] * behind) - photographs.over(behind)).square().mean())
    expected = torch.stack(drawn).mean()
    assert abs(float(expected_error(rgb, opacity, photographs) / expected) - 1.0) < 5e-3


def test_it_is_zero_only_where_colour_and_opacity_are_right() -> None:
    photographs = batch(30)
    assert photographs.alpha is not None
    right = photographs.alpha[:, None] * photographs.rgb
    assert float(expected_error(right, photographs.alpha, photographs)) < 1e-12
    # Over white alone the wrong opacity below would go unnoticed.
    opacity = 0.5 * photographs.alpha
    over_white = photographs.over(torch.ones(3)) - (1.0 - opacity)[:, None]
    assert float(expected_error(over_white, opacity, photographs)) > 1e-3
