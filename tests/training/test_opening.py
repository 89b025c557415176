"""The beginning of training in unbounded space: where rays begin, and which cells are looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fieldmorph.render.types import Rays, RenderSettings
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.training.batches import Batch
from fieldmorph.training.budget import Budget
from fieldmorph.training.opening import FIRST, approach
from fieldmorph.training.recipes import recipe_for
from fieldmorph.training.trainer import Trainer

STAGE = Space((1.0, -1.0, -1.0), (3.0, 1.0, 1.0), unbounded=True)
RAYS = Rays(torch.tensor([[-4.0, 0.0, 0.0], [2.0, 3.0, 0.0], [2.0, 0.1, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]] * 3))
"""Six, three and a tenth of a unit from the middle."""


def begins(done: float, near: float = 1.0, rays: Rays = RAYS, space: Space = STAGE) -> Tensor | None:
    return approach(rays, space, near, done).near


def test_rays_begin_halfway_to_the_middle_and_end_at_near() -> None:
    first, half, last = begins(0.0), begins(0.5), begins(1.0)
    assert first is not None and half is not None
    assert first.tolist() == pytest.approx([1.0 + 5.0 * FIRST, 1.0 + 2.0 * FIRST, 1.0]), "a camera in the middle sees all from near on"
    assert half.tolist() == pytest.approx([1.0 + 2.5 * FIRST, 1.0 + FIRST, 1.0])
    assert last is None, "nothing is left of it"


def test_what_a_ray_must_not_see_stays_out_of_sight() -> None:
    own = begins(0.0, rays=replace(RAYS, near=torch.tensor([5.0, 0.5, 0.5])))
    assert own is not None and own.tolist() == pytest.approx([5.0, 2.0, 1.0])


def test_a_bounded_box_needs_no_opening() -> None:
    assert begins(0.0, space=replace(STAGE, unbounded=False)) is None


class FarFog:
    """Rays from the box's middle; the trainer under test never asks for colours."""

    def next(self, rays: int, generator: torch.Generator) -> Batch:
        return Batch(Rays(torch.zeros(rays, 3), torch.ones(rays, 3)), torch.zeros(rays, 3), None)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None: ...


@pytest.mark.parametrize("opening", [0.0, 0.5])
def test_dense_fog_far_away_does_not_empty_the_middle(opening: float) -> None:
    field = build("voxels", {"start": 8, "final": 8, "occupancy": 16}, STAGE, 0)
    field.density = lambda x: torch.where(STAGE.to_unit(x).sub(0.5).abs().amax(-1) < 0.25, 1e-5, 10.0)  # type: ignore[method-assign]
    gone = field.occupancy.density[4, 4, 4]
    gone.fill_(-2.0)  # ruled out for good
    recipe = replace(recipe_for("mixed"), opening=opening)
    trainer = Trainer(field, FarFog(), recipe, Budget(200, None), RenderSettings(), lambda n, g: torch.zeros(3), 0)
    middle = field.occupancy.bits[4:12, 4:12, 4:12]
    for step in range(16, 200, 16):
        trainer.budget.step = step
        trainer.keep_up(step / 200)
        if 64 <= step < 100:  # every cell was visited
            assert float(middle.float().mean()) == (pytest.approx(511 / 512) if opening else 0.0)
            assert not middle[0, 0, 0]
    assert not middle.any(), "after the opening, density decides"
    assert field.occupancy.bits[0].all()
