"""Cells that several cameras see change, against those that one view alone calls moving."""

from __future__ import annotations

import numpy as np
import torch

from fieldmorph.render.camera import Camera, look_at
from fieldmorph.representations.space import Space
from fieldmorph.training.witnesses import LEVELS, any_within, witnessed

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), unbounded=True)
R = 32
CELL = torch.tensor([16, 16, 16])
"""Its centre is a 32nd of a box side from the middle of space."""


def rig(count: int) -> list[Camera]:
    angles = np.linspace(-0.5, 0.5, count)
    places = [3.0 * np.array([np.sin(a), -np.cos(a), 0.1]) for a in angles]
    return [Camera(64, 48, 80.0, 80.0, 32.0, 24.0, look_at(place, (0.0, 0.0, 0.0))) for place in places]


def changing(cameras: list[Camera], seen_by: set[int]) -> list[torch.Tensor]:
    """Pictures in which only the cell's pixel changes, for the cameras named."""
    centre = BOX.from_unit((CELL + 0.5) / R)[None]
    pictures = []
    for k, camera in enumerate(cameras):
        picture = torch.zeros(camera.height, camera.width, dtype=torch.bool)
        x, y = camera.project(centre)[0][0].long().tolist()
        picture[y, x] = k in seen_by
        pictures.append(picture)
    return pictures


def test_a_cell_needs_several_witnesses_and_half_of_those_who_look() -> None:
    cameras, cells = rig(5), torch.ones(R, R, R, dtype=torch.bool)
    for seen_by, expected in (({0, 1, 2, 3, 4}, True), ({0, 2, 4}, True), ({0, 4}, False), ({2}, False), (set(), False)):
        found = witnessed(cells, BOX, cameras, changing(cameras, seen_by))
        assert bool(found[tuple(CELL)]) is expected, seen_by
    two = rig(2)
    assert bool(witnessed(cells, BOX, two, changing(two, {0, 1}))[tuple(CELL)])
    assert not witnessed(cells, BOX, two, changing(two, {1})).any(), "half of two are not two"


def test_what_one_camera_alone_sees_is_no_witness_of_the_cells_before_it() -> None:
    cameras = rig(5)
    cells = torch.ones(R, R, R, dtype=torch.bool)
    found = witnessed(cells, BOX, cameras, changing(cameras, set(range(5))))
    where = BOX.from_unit((found.nonzero() + 0.5) / R)
    assert bool(found[tuple(CELL)])
    assert int(found.sum()) < R**3 / 100
    assert float((where - torch.tensor([0.0, -3.0, 0.3])).norm(dim=-1).min()) > 1.0, "nothing right before the cameras"


def test_only_cells_named_before_are_found() -> None:
    cameras = rig(3)
    cells = torch.zeros(R, R, R, dtype=torch.bool)
    assert not witnessed(cells, BOX, cameras, changing(cameras, {0, 1, 2})).any()
    cells[tuple(CELL)] = True
    everywhere = [torch.ones(48, 64, dtype=torch.bool)] * 3
    assert witnessed(cells, BOX, cameras, everywhere).nonzero().tolist() == [CELL.tolist()]


def test_cells_out_of_sight_stand_still() -> None:
    cameras = rig(3)
    cells = torch.ones(R, R, R, dtype=torch.bool)
    found = witnessed(cells, BOX, cameras, [torch.ones(48, 64, dtype=torch.bool)] * 3)
    behind = BOX.from_unit((found.nonzero() + 0.5) / R)[:, 1]
    assert float(behind.min()) > -3.0, "nothing behind the rig"


def test_pixels_are_looked_at_as_far_as_the_reach() -> None:
    picture = torch.zeros(90, 100, dtype=torch.bool)
    picture[40, 50] = True
    y, x = (place.reshape(-1) for place in torch.meshgrid(torch.arange(90), torch.arange(100), indexing="ij"))
    for level in range(LEVELS):
        reach = 2**level
        expected = torch.zeros_like(picture)
        expected[40 - reach : 40 + reach + 1, 50 - reach : 50 + reach + 1] = True
        assert torch.equal(any_within(picture, x, y, torch.full_like(x, reach)).view_as(picture), expected)
