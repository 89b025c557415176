"""Mixed fields: batches of videos, the renderer with time, two-phase training, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmorph.datasets.procedural.video import make_video_scene
from fieldmorph.datasets.scene import Scene, load_scene
from fieldmorph.errors import UserError
from fieldmorph.render.renderer import render_rays
from fieldmorph.render.times import render_times
from fieldmorph.render.types import RenderSettings
from fieldmorph.representations.mixed import MixedField
from fieldmorph.representations.registry import build
from fieldmorph.representations.variation import VariationField
from fieldmorph.training import TrainOptions, train
from fieldmorph.training.video import VideoBatches, blurred, views_of

SMALL = {"start": 12, "final": 20, "density_rank": 4, "color_rank": 4, "hidden": 16, "color_hidden": 16, "occupancy": 24}
FRAMES, CAMERAS = 5, 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("video") / "clip"
    make_video_scene(folder, cameras=CAMERAS, frames=FRAMES, width=32, height=24, samples=1)
    return load_scene(folder)


@pytest.fixture(scope="module")
def batches(clip: Scene) -> VideoBatches:
    return VideoBatches(clip, torch.device("cpu"))


def half_moving(clip: Scene) -> MixedField:
    """A field with structure whose cells move or not by chance."""
    field = build("mixed", {**SMALL, "frames": FRAMES}, clip.space, 0)
    assert isinstance(field, MixedField)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.mul_(4.0)
        field.split.copy_(torch.rand(field.split.shape, generator=generator) < 0.4)
        field.occupancy.bits.copy_(torch.rand(field.split.shape, generator=generator) < 0.3)
    return field


def test_pixels_lie_by_ray_and_their_statistics_are_right(clip: Scene, batches: VideoBatches) -> None:
    views = views_of(clip)
    assert [len(view) for view in views] == [FRAMES] * (CAMERAS - 1)
    frames = np.stack([[clip.images.load(i) for i in view] for view in views])  # [V, F, H, W, 3]
    stored = batches.pixels.reshape(CAMERAS - 1, 24, 32, FRAMES, 3)
    assert np.array_equal(stored, frames.transpose(0, 2, 3, 1, 4))
    scaled = frames / 255.0
    assert np.allclose(batches.mean.numpy(), scaled.mean(1).reshape(-1, 3), atol=1e-6)
    deviation = torch.from_numpy(scaled.std(1).mean(-1)[0]).float()
    assert np.allclose(batches.deviation[: 24 * 32].numpy(), blurred(deviation, 24 * 5.0 / 1014.0).reshape(-1).numpy(), atol=1e-5)


def test_moving_pixels_are_drawn_by_how_much_they_change(batches: VideoBatches) -> None:
    everything = torch.ones(batches.count, dtype=torch.bool)
    everything[:100] = False
    batches.cross(everything)
    frames = torch.tensor([4, 1])
    rays, rgb = batches.moving(3000, frames, torch.Generator().manual_seed(0))
    assert rgb.shape == (3000, 3, 2)
    spread = batches.deviation[100:]
    changing, steady = float((spread > 0.1).float().mean()), float((spread < 0.01).float().mean())
    drawn = (rgb[..., 0] - rgb[..., 1]).abs().amax(1)
    assert changing > 0 and steady > 0
    assert float((drawn > 0.3).float().mean()) > 0.02
    assert len(rays) == 3000


def test_frames_are_chosen_by_how_far_they_are_from_the_mean(batches: VideoBatches) -> None:
    generator = torch.Generator().manual_seed(0)
    assert batches.choose_frames(9, 1.0, generator).tolist() == list(range(FRAMES))
    before = batches.score
    batches.score = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0])
    try:
        cold = torch.stack([batches.choose_frames(2, 0.02, generator) for _ in range(20)])
        hot = torch.stack([batches.choose_frames(2, 100.0, generator) for _ in range(200)])
    finally:
        batches.score = before
    assert cold.unique().tolist() == [2, 4]
    assert torch.bincount(hot.flatten(), minlength=FRAMES).min() > 40


def test_all_times_together_are_the_moments_one_by_one(clip: Scene) -> None:
    field = half_moving(clip)
    rays = clip.cameras[0].resized(12, 9).rays()
    settings = RenderSettings(steps=64, cone=1 / 32, background="none", termination=1e-3)
    with torch.no_grad():
        together = render_times(field, rays, settings)
        for f in range(FRAMES):
            alone = render_rays(field.at(f / (FRAMES - 1)), rays, settings)
            # a sample at the edge of termination, or too faint for a colour, may count on one side only
            assert float((together.rgb[..., f] - alone.rgb).abs().max()) < 5e-3
            assert float((together.opacity[:, f] - alone.opacity).abs().max()) < 5e-3
        some = render_times(field, rays, settings, frames=torch.tensor([3, 0]))
        assert torch.allclose(some.rgb, together.rgb[..., [3, 0]], atol=1e-5)


def test_what_moves_does_not_bleed_into_what_stands_still(clip: Scene) -> None:
    field = half_moving(clip)
    seen = render_times(field, clip.cameras[0].resized(12, 9).rays(), RenderSettings(steps=64, cone=1 / 32))
    assert seen.still > 0 and seen.moving > 0
    seen.rgb.square().sum().backward()
    assert all(p.grad is None for p in field.static.parameters())
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in field.moving.parameters())


def test_the_empty_space_rule_takes_out_steady_floaters(clip: Scene) -> None:
    field = half_moving(clip)
    field.split.fill_(True)
    unit = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    x = clip.space.from_unit(unit)
    with torch.no_grad():
        for factor in (*field.static.encoder.density_planes, *field.moving.density.tensors[-1:]):
            factor.zero_()
    assert float(field.peak_density(x).min()) > 0.0
    assert float(field.peak_density(x, settled=True).max()) == 0.0, "neither branch varies there, the static one sees nothing"
    with torch.no_grad():
        field.moving.density.tensors[-1][0] = 3.0
    assert bool((field.peak_density(x, settled=True) > 0.0).any()), "what varies stays"


def test_a_finer_variation_field_says_the_same(clip: Scene) -> None:
    field = VariationField(clip.space, 6)
    field.reset_parameters(torch.Generator().manual_seed(0))
    unit = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = field(unit)
        field.refine(11)  # every old vertex is one of the new
        assert torch.allclose(field(unit), before, atol=1e-5)
        cells = field.cells(8, 0.119, 0)
        wide = field.cells(8, 0.119, 1)
    assert bool((wide | ~cells).all())
    assert int(wide.sum()) > int(cells.sum()) > 0


def test_the_static_branch_starts_from_a_field_that_stands_still(clip: Scene) -> None:
    made = {"start": 20, "final": 20, "density_rank": 4, "color_rank": 4, "hidden": 16, "occupancy": 24}
    still = build("vm", made, clip.space, 3)
    field = build("mixed", {**SMALL, "start": 20, "frames": FRAMES}, clip.space, 0)
    assert isinstance(field, MixedField)
    field.warm_start(still)
    x = clip.space.from_unit(torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        assert torch.allclose(field.part("background").at(0.0).density(x), still.density(x), rtol=1e-4)
    with pytest.raises(UserError, match="distil it into vm first"):
        field.warm_start(build("cp", {"start": 8, "final": 8}, clip.space, 0))
    with pytest.raises(UserError, match="ranks"):
        field.warm_start(build("vm", {**made, "color_rank": 3}, clip.space, 0))


def options(**changes: object) -> TrainOptions:
    values = {"field": "mixed", "steps": 40, "device": "cpu", "view_seconds": 0.0, "family_options": {**SMALL, "marks": (0.3, 0.5)}}
    return TrainOptions(**{**values, **changes})  # type: ignore[arg-type]


def test_a_killed_run_continues_bit_for_bit(clip: Scene, tmp_path: Path) -> None:
    whole = train(clip, options(), tmp_path / "whole").field
    train(
        clip, options(checkpoint_steps=20), tmp_path / "half", callbacks=[lambda trainer, stats: setattr(trainer, "stop", stats.step == 20)]
    )
    again = train(clip, options(), tmp_path / "half", resume=True)
    assert again.finished and again.step == 40
    mine, theirs = whole.state_dict(), again.field.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert whole.frames == FRAMES


def test_everything_may_move(clip: Scene, tmp_path: Path) -> None:
    found = train(clip, options(steps=6, family_options={**SMALL, "everything": True}), tmp_path / "run").field
    assert isinstance(found, MixedField)
    assert bool(found.split.all())


@pytest.mark.parametrize("what", ["still", "monocular", "unsynchronised", "other frames"])
def test_what_a_mixed_field_cannot_be_trained_on(what: str, clip: Scene, ball_scene: Scene, tmp_path: Path) -> None:
    scene, changes, sentence = ball_scene, {}, "stands still"
    if what == "monocular":  # D-NeRF: every picture from another place
        cameras = [replace(camera, time=i / 20) for i, camera in enumerate(ball_scene.cameras)]
        scene, sentence = replace(ball_scene, cameras=cameras), "seen from one place only"
    elif what == "unsynchronised":
        split = {**clip.split, "train": clip.split["train"][1:]}
        scene, sentence = replace(clip, split=split), "do not share the times"
    elif what == "other frames":
        scene, changes, sentence = clip, {"family_options": {**SMALL, "frames": 7}}, "has 5 frames"
    with pytest.raises(UserError, match=sentence):
        train(scene, options(**changes), tmp_path / "run")
    assert not (tmp_path / "run" / "field.field").exists()
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
