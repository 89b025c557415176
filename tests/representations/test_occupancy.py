"""The occupancy grid: what it learns, keeps, rules out and packs."""

from __future__ import annotations

import math

import pytest
import torch

from fieldmorph.representations.occupancy import ALPHA_THRESHOLD, REFERENCE_STEP, WARMUP_STEPS, Occupancy
from fieldmorph.representations.space import Space

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
SKY = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), unbounded=True)


def ball(positions: torch.Tensor) -> torch.Tensor:
    return (positions.norm(dim=-1) < 0.5).float() * 100.0


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _cell(grid: Occupancy, space: Space, position: tuple[float, float, float]) -> bool:
    index = (space.to_unit(torch.tensor(position)) * grid.resolution).long()
    return bool(grid.bits[tuple(index.tolist())])


def test_everything_is_occupied_until_looked_at() -> None:
    grid = Occupancy(8)
    assert bool(grid.bits.all())
    grid.update(lambda p: torch.zeros(len(p)), BOX, 0, _generator(), fraction=0.25)
    assert grid.occupied_fraction == 0.75, "a quarter was seen to be empty"
    grid.update(lambda p: torch.zeros(len(p)), BOX, 0, _generator(1), fraction=0.75)
    assert grid.occupied_fraction == 0.0, "unseen cells come first"


def test_a_ball_is_found_and_forgotten() -> None:
    grid, generator = Occupancy(32), _generator()
    for step in range(0, 2 * WARMUP_STEPS, 16):
        grid.update(ball, BOX, step, generator)
    volume = 4.0 / 3.0 * math.pi * 0.5**3 / 8.0
    assert volume < grid.occupied_fraction < 1.6 * volume  # cells the surface cuts count too
    assert _cell(grid, BOX, (0.0, 0.4, 0.0))
    assert not _cell(grid, BOX, (0.0, 0.7, 0.0))
    bounds = grid.bounds()
    assert bounds is not None
    assert bounds[0].tolist() == pytest.approx([0.25] * 3, abs=1 / 32)
    assert bounds[1].tolist() == pytest.approx([0.75] * 3, abs=1 / 32)
    for _ in range(450):  # 0.95^450 is below every threshold
        grid.update(lambda p: torch.zeros(len(p)), BOX, 10_000, generator, fraction=1.0)
    assert grid.occupied_fraction == 0.0
    assert grid.bounds() is None


def test_matter_that_appears_later_is_found() -> None:
    grid, generator = Occupancy(16), _generator()
    for step in range(0, 600, 16):
        grid.update(lambda p: torch.zeros(len(p)), BOX, step, generator)
    for step in range(600, 600 + 200 * 16, 16):
        grid.update(ball, BOX, step, generator)
    assert _cell(grid, BOX, (0.2, 0.0, 0.0))


def test_a_young_thin_field_is_not_cut_away() -> None:
    """All cells alike and below the threshold: the mean decides."""
    grid = Occupancy(16)
    noise = _generator(3)
    grid.update(lambda p: 1.0 + 0.1 * torch.rand(len(p), generator=noise), BOX, 0, _generator(), fraction=1.0)
    assert float(grid.density.max()) < ALPHA_THRESHOLD
    assert grid.occupied_fraction == 1.0


def test_threshold_is_an_alpha_of_one_reference_step() -> None:
    grid = Occupancy(16)
    limit = -math.log(1.0 - ALPHA_THRESHOLD) / REFERENCE_STEP

    def stripes(p: torch.Tensor) -> torch.Tensor:  # most dense, so that the mean is above the threshold
        return torch.where(p[:, 0] < -0.5, 0.95 * limit, torch.where(p[:, 0] < 0.0, 1.05 * limit, 1e3))

    grid.update(stripes, BOX, 0, _generator(), fraction=1.0)
    assert not bool(grid.bits[:4].any())
    assert bool(grid.bits[4:].all())


def test_a_scaled_scene_gives_the_same_grid() -> None:
    """Density is per normalised length, so the box's size does not matter."""
    large = Space((-50.0, -50.0, -50.0), (50.0, 50.0, 50.0))
    one, other = Occupancy(16), Occupancy(16)
    one.update(ball, BOX, 0, _generator(), 1.0)
    other.update(lambda p: ball(p / 50.0), large, 0, _generator(), 1.0)
    assert torch.equal(one.bits, other.bits)


def test_far_cells_of_an_unbounded_space_are_judged_by_longer_steps() -> None:
    """The same thin fog: nothing near, matter far away, where one step is many times as long."""
    grid = Occupancy(32)
    fog = 0.5 * ALPHA_THRESHOLD / REFERENCE_STEP
    grid.update(lambda p: torch.where(p.abs().amax(-1) < 0.3, 1e6, fog), SKY, 0, _generator(), 1.0)
    assert not _cell(grid, SKY, (0.8, 0.0, 0.0))
    assert _cell(grid, SKY, (20.0, 0.0, 0.0))
    assert _cell(grid, SKY, (0.0, 0.0, 0.0))


def test_density_is_asked_inside_the_space_only() -> None:
    seen = []

    def record(p: torch.Tensor) -> torch.Tensor:
        seen.append(p)
        return torch.zeros(len(p))

    for space in (BOX, SKY):
        Occupancy(16).update(record, space, 0, _generator(), 1.0)
        positions = torch.cat(seen)
        assert bool(torch.isfinite(positions).all())
        assert bool(space.contains(positions).all())
        seen.clear()


def test_a_field_that_answers_nan_is_not_skipped() -> None:
    grid = Occupancy(8)
    grid.update(lambda p: torch.full((len(p),), float("nan")), BOX, 0, _generator(), 1.0)
    assert grid.occupied_fraction == 1.0


def test_the_same_generator_gives_the_same_grid() -> None:
    grids = []
    for _ in range(2):
        grid, generator = Occupancy(16), _generator(5)
        for step in (0, 16, 300, 316, 332):
            grid.update(lambda p: p[:, 0].clamp_min(0) * 10, BOX, step, generator)
        grids.append(grid)
    assert torch.equal(grids[0].density, grids[1].density)


def test_updates_cost_what_they_promise() -> None:
    grid, generator, counts = Occupancy(32), _generator(), []

    def count(p: torch.Tensor) -> torch.Tensor:
        counts.append(len(p))
        return ball(p)

    for step in range(0, 800, 16):
        grid.update(count, BOX, step, generator)
    assert max(counts) <= 32**3 / 4
    assert counts[-1] <= 32**3 / 16


def test_ruled_out_cells_stay_empty() -> None:
    grid, generator = Occupancy(8), _generator()
    keep = torch.zeros(8, 8, 8, dtype=torch.bool)
    keep[:4] = True
    grid.restrict(keep)
    for step in (0, 16, 1000):
        grid.update(lambda p: torch.full((len(p),), 1e3), BOX, step, generator, fraction=1.0)
        assert torch.equal(grid.bits, keep)
    with pytest.raises(ValueError, match=r"bool \(8, 8, 8\)"):
        grid.restrict(torch.zeros(4, 4, 4, dtype=torch.bool))


def test_initialise_from_a_mask() -> None:
    grid = Occupancy(16)
    grid.update(lambda p: torch.zeros(len(p)), BOX, 0, _generator(), 1.0)
    grid.initialise(lambda p: p.norm(dim=-1) < 0.6, BOX, _generator())
    assert _cell(grid, BOX, (0.5, 0.0, 0.0))
    assert not _cell(grid, BOX, (0.8, 0.0, 0.0))
    assert 0.1 < grid.occupied_fraction < 0.2


def test_remap_into_a_smaller_box_keeps_matter() -> None:
    grid = Occupancy(16)
    grid.update(ball, BOX, 0, _generator(), 1.0)
    small = Space((-0.6, -0.6, -0.6), (0.6, 0.6, 0.6))
    positions = torch.nn.functional.normalize(torch.randn(300, 3, generator=_generator()), dim=-1) * 0.45
    before = grid.bits[tuple((BOX.to_unit(positions) * 16).long().T)]
    grid.remap(BOX, small)
    after = grid.bits[tuple((small.to_unit(positions) * 16).long().T)]
    assert int(before.sum()) > 200
    assert bool(after[before].all())
    assert not _cell(grid, small, (0.58, 0.58, 0.58))


@pytest.mark.parametrize("resolution", [1, 3, 8])
def test_packed_bits(resolution: int) -> None:
    grid, again = Occupancy(resolution), Occupancy(resolution)
    grid.bits.copy_(torch.rand(resolution, resolution, resolution, generator=_generator()) > 0.5)
    packed = grid.packed()
    assert packed.shape == (-(-(resolution**3) // 8),)
    again.load_packed(packed)
    assert torch.equal(again.bits, grid.bits)
    again.refresh_bits()
    assert torch.equal(again.bits, grid.bits), "the running values agree with the bits"
    with pytest.raises(ValueError, match="uint8"):
        again.load_packed(packed[:-1])
