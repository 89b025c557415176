"""Pruning while training: the target is met, the geometry survives, and a resumed run goes on as if never stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmorph.compress.finetune import hollowed, rounding
from fieldmorph.compress.hollow import HollowPruner, mask_of, open_cells, saliency_of
from fieldmorph.datasets.procedural import geometry, make_scene
from fieldmorph.datasets.scene import Scene, load_scene
from fieldmorph.errors import UserError
from fieldmorph.kernels.reference_saliency import CLOSED
from fieldmorph.render.renderer import render_rays
from fieldmorph.render.types import RenderSettings
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, read_header, save_field
from fieldmorph.representations.hashgrid import HashGridField, HashGridOptions
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.training import TrainOptions, train

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:fieldmorph.kernels")

SIDE, KEEP = 28, 0.4
FIELD = {"levels": 5, "log2_table": 12, "base": 8, "finest": 128, "hidden": 16, "occupancy": 32, "saliency": SIDE}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return load_scene(make_scene(tmp_path_factory.mktemp("own") / "scene", size=56, train=24, val=0, test=1, samples=1))


def options(steps: int) -> TrainOptions:
    return TrainOptions(steps=steps, family_options=FIELD, compress="hollow", keep=KEEP, view_seconds=0, samples=8192)


@pytest.fixture(scope="module")
def hollow(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Field:
    return train(scene, options(300), tmp_path_factory.mktemp("hollow"), pruner=HollowPruner(KEEP)).field


def test_sparsity_reaches_its_target(hollow: Field) -> None:
    logits = saliency_of(hollow).detach()
    kept = float((logits > CLOSED).float().mean())
    assert 0.0 < kept <= KEEP
    cells = mask_of(logits, hollow.occupancy.resolution)
    assert not (hollow.occupancy.bits & ~cells).any(), "the mask feeds the occupancy grid"


def test_mask_covers_the_true_geometry(hollow: Field, scene: Scene) -> None:
    """Of points exactly on visible surfaces, nearly all lie in open cells; of open cells, most lie at matter."""
    exact = geometry(0)
    logits = saliency_of(hollow).detach()
    cells = open_cells(logits).numpy()
    space = hollow.space

    def open_at(points: np.ndarray) -> np.ndarray:
        unit = space.to_unit(torch.from_numpy(points).float()).numpy()
        index = np.clip((unit * (SIDE - 1)).astype(int), 0, SIDE - 2)
        return cells[index[:, 0], index[:, 1], index[:, 2]]

    surface = []
    for camera in (scene.cameras[i] for i in scene.split["train"][:8]):
        rays = camera.rays()
        depth = exact.trace(camera, samples=1).depth.reshape(-1, 1)
        points = rays.origins.numpy() + depth * rays.directions.numpy()
        surface.append(points[depth[:, 0] > 0])
    recall = open_at(np.concatenate(surface)).mean()
    centres = (np.argwhere(cells) + 0.5) / (SIDE - 1)
    world = space.from_unit(torch.from_numpy(centres)).numpy()
    reach = 1.5 * np.linalg.norm(np.array(space.size) / (SIDE - 1))  # a cell and a half: trilinear support
    precision = (exact.distance(world) < reach).mean()
    assert recall > 0.95
    assert precision > 0.5


def test_after_the_decision_there_is_no_gate(hollow: Field) -> None:
    """The plain grid's kernels serve it, rays are not led to what is shut, and who asks for a point there is told of nothing."""
    lowered = hollow.lower()
    assert lowered is not None and lowered.saliency is None
    assert "encoder.saliency" not in hollow.state_dict()
    open_there = mask_of(saliency_of(hollow), 32)
    unit = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    shut = ~open_there[tuple((unit * 32).long().unbind(-1))]
    where = hollow.space.from_unit(unit)
    assert 100 < int(shut.sum()) < 3900
    assert not hollow.density(where)[shut].any()
    with torch.no_grad():
        assert not hollow.density(where)[shut].any()
        assert not hollow.evaluate(where, torch.nn.functional.normalize(unit + 0.1, dim=-1)).gate[shut].any()
        assert hollow.density(where)[~shut].any()


def test_numbers_are_counted_with_the_mask(hollow: Field) -> None:
    assert hollow.numbers == sum(p.numel() for p in hollow.parameters()) + SIDE**3


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_decided_field_is_saved(hollow: Field, tmp_path: Path, precision: str) -> None:
    save_field(hollow, tmp_path / "f.field", precision)  # type: ignore[arg-type]
    again = load_field(tmp_path / "f.field")
    assert torch.equal(saliency_of(again), saliency_of(hollow))
    assert again.numbers == hollow.numbers == read_header(tmp_path / "f.field").parameters
    where = hollow.space.from_unit(torch.rand(500, 3, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        assert torch.equal(again.density(where) == 0, hollow.density(where) == 0)


def test_layouts_that_cannot_be(hollow: Field) -> None:
    for options, layout in (({**FIELD, "saliency": 0}, {"decided": True}), (FIELD, {"decided": 1.5}), (FIELD, {"mask": True})):
        with pytest.raises(ValueError, match="layout"):
            HashGridField(HashGridOptions(**options), hollow.space, layout)


def test_a_run_that_found_nothing_keeps_something() -> None:
    field = build("hashgrid", FIELD, Space((-1.0,) * 3, (1.0,) * 3), 0)
    with torch.no_grad():
        saliency_of(field).fill_(CLOSED)
        field.occupancy.restrict(torch.zeros(32, 32, 32, dtype=torch.bool))
    HollowPruner(KEEP).harden(field)
    assert 0.0 < float((saliency_of(field) > CLOSED).float().mean()) <= KEEP


@pytest.mark.parametrize("at", [20, 34], ids=["before the decision", "after it"])
def test_resumed_pruning_is_bit_identical(scene: Scene, tmp_path: Path, at: int) -> None:
    whole = train(scene, options(40), tmp_path / "whole", pruner=HollowPruner(KEEP)).field
    stopped = tmp_path / "stopped"
    pruner = HollowPruner(KEEP)

    def stop(trainer, stats) -> None:  # type: ignore[no-untyped-def]
        trainer.stop = stats.step == at

    train(scene, options(40), stopped, pruner=pruner, callbacks=[stop])
    again = train(scene, options(40), stopped, pruner=HollowPruner(KEEP), resume=True).field
    mine, theirs = whole.state_dict(), again.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_an_existing_field_can_be_hollowed(field: Field) -> None:
    made = hollowed(field, 8)
    rays = torch.nn.functional.normalize(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    from fieldmorph.render.types import Rays

    bundle = Rays(-3.0 * rays, rays)
    with torch.no_grad():
        before = render_rays(field, bundle, RenderSettings(steps=64)).rgb
        after = render_rays(made, bundle, RenderSettings(steps=64)).rgb
    assert float((before - after).abs().max()) < 0.1
    assert saliency_of(made).shape == (8, 8, 8)
    with pytest.raises(UserError, match="no saliency grid"):
        saliency_of(field)
    with pytest.raises(UserError, match="only hash grids"):
        hollowed(build("cp", {"start": 8, "final": 8, "density_rank": 2, "color_rank": 2, "occupancy": 8}, field.space), 8)


def test_mask_on_other_grids() -> None:
    """A cell of any grid is kept if it overlaps an open saliency cell."""
    logits = torch.full((5, 5, 5), CLOSED)
    logits[0, 0, 0] = 0.0
    for resolution in (2, 4, 6, 32):
        expected = torch.zeros(resolution, resolution, resolution, dtype=torch.bool)
        reach = -(-resolution // 4)
        expected[:reach, :reach, :reach] = True
        assert torch.equal(mask_of(logits, resolution), expected)


def test_rounding() -> None:
    values = torch.tensor([0.0, 0.29, 0.31, -0.9, 5.0])
    assert torch.allclose(rounding(values, torch.tensor([0.5, 0.5, 0.5, 0.5, 0.0])), torch.tensor([0.0, 0.0, 0.5, -1.0, 5.0]))
