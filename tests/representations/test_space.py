"""Box and contraction."""

from __future__ import annotations

import pytest
import torch

from fieldmorph.representations.space import Space

BOX = Space((-1.0, -2.0, 0.0), (1.0, 2.0, 1.0))
SKY = Space((-1.0, -2.0, 0.0), (1.0, 2.0, 1.0), unbounded=True)


def test_scale_makes_the_longest_side_two() -> None:
    assert BOX.scale == 0.5
    assert Space((0, 0, 0), (1, 1, 1)).scale == 2.0


@pytest.mark.parametrize("space", [BOX, SKY])
def test_unit_coordinates_and_back(space: Space) -> None:
    unit = torch.rand(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.98 + 0.01
    assert torch.allclose(space.to_unit(space.from_unit(unit)), unit, atol=1e-9)


def test_contraction_leaves_the_box_alone_and_holds_everything() -> None:
    middle = torch.tensor([0.0, 0.0, 0.5])
    assert torch.equal(SKY.to_unit(middle), torch.full((3,), 0.5))
    assert torch.allclose(SKY.to_unit(torch.tensor([1.0, 0.0, 0.5])), torch.tensor([0.75, 0.5, 0.5]))
    far = torch.tensor([[1e7, 0.0, 0.5], [-1e7, 1e7, 1e7]])
    unit = SKY.to_unit(far)
    assert bool(((unit >= 0) & (unit <= 1)).all())
    assert float(unit[0, 0]) > 0.999
    assert bool(SKY.contains(far).all())


def test_contraction_is_continuous_and_monotonic() -> None:
    t = torch.linspace(0.0, 30.0, 3001, dtype=torch.float64)
    x = SKY.to_unit(torch.stack([t, torch.zeros_like(t), torch.full_like(t, 0.5)], -1))[:, 0]
    steps = x[1:] - x[:-1]
    assert bool((steps > 0).all())
    assert float(steps.max()) < 0.0026


def test_contains() -> None:
    inside = BOX.contains(torch.tensor([[0.0, 0.0, 0.5], [1.0, 2.0, 1.0], [1.1, 0.0, 0.5], [float("nan"), 0.0, 0.5]]))
    assert inside.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "corners", [((0, 0, 0), (0, 1, 1)), ((0, 0, 0), (-1, 1, 1)), ((0, 0, 0), (float("nan"), 1, 1)), ((0, 0, -1e12), (1, 1, 1))]
)
def test_impossible_boxes(corners: tuple[tuple[float, float, float], tuple[float, float, float]]) -> None:
    with pytest.raises(ValueError, match="lower < upper"):
        Space(*corners)
