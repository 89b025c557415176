"""Voxels that are taken out before packing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fieldmorph.compress.pack import PackOptions, Report
from fieldmorph.compress.prune import drop_unreached, drop_unseen
from fieldmorph.compress.run import compress_field
from fieldmorph.compress.search import Goal
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field
from fieldmorph.representations.registry import build
from fieldmorph.representations.voxels import VoxelField

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:fieldmorph.kernels")

SIDE = 9


@pytest.fixture
def blocks(field: Field) -> VoxelField:
    """Matter on the left only, grey; a field whose training was cut short, so that marks are still to come."""
    made = build("voxels", {"start": SIDE, "final": 12, "marks": (0.0, 0.5), "occupancy": 8, "degree": 2}, field.space, 0)
    assert isinstance(made, VoxelField)
    with torch.no_grad():
        made.density_data.view(SIDE, SIDE, SIDE)[:4] = 3.0
    made.metadata.update(field.metadata)
    return made


def test_what_shows_most_stays(blocks: VoxelField) -> None:
    shown = torch.arange(float(blocks.rows))
    gone = drop_unseen(blocks, 0.1, {"density_data": shown, "sh_data": torch.zeros_like(blocks.sh_data)})
    assert blocks.rows == int(0.1 * SIDE**3)
    assert gone == SIDE**3 - blocks.rows
    kept = (blocks.links.flatten() >= 0).nonzero()[:, 0]
    assert torch.equal(kept, torch.arange(SIDE**3 - blocks.rows, SIDE**3))
    assert torch.equal(blocks.links.flatten()[kept], torch.arange(blocks.rows, dtype=torch.int32)), "in the order of the vertices"
    assert torch.equal(blocks.vertices(), kept)


def test_a_large_share_drops_what_is_not_reached_only(blocks: VoxelField) -> None:
    keep = torch.zeros(8, 8, 8, dtype=torch.bool)
    keep[:3] = True
    blocks.occupancy.restrict(keep)
    assert drop_unseen(blocks, 0.9, {n: torch.ones_like(p) for n, p in blocks.named_parameters()}) == SIDE**2 * 5
    assert blocks.rows == SIDE**2 * 4
    assert drop_unreached(blocks) == 0


@pytest.mark.parametrize("steps", [None, 6])
def test_voxels_are_pruned_and_packed(blocks: VoxelField, tmp_path: Path, steps: int | None) -> None:
    heard: list[Report] = []
    options = PackOptions(Goal(drop=1.0), keep=0.4, steps=steps)
    packed = compress_field(blocks, tmp_path / "p.field", options, follow=heard.append)
    again = load_field(tmp_path / "p.field")
    assert isinstance(again, VoxelField)
    assert 0 < again.rows <= 0.4 * SIDE**3
    assert again.grid == blocks.grid, "marks of the training are not passed while packing"
    assert again.density(torch.tensor([[-0.95, 0.0, 0.1]])) > 1.0, "a surface that cameras see stays"
    assert packed.parameters == sum(p.numel() for p in blocks.parameters())
    assert ("prune" in {report.stage for report in heard}) == (steps is not None)
