"""The renderer against closed forms: what a constant medium must look like."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from analytic import UNIT_BOX, Ball, SoftBall
from torch import nn

from fieldmorph.errors import UserError
from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.renderer import Cancelled, render_image, render_rays, tile_order
from fieldmorph.render.types import Rays, RenderSettings
from fieldmorph.representations.space import Space

NOTHING = RenderSettings(background="none", termination=0.0)
STEP = math.sqrt(12.0) / NOTHING.steps


def bundle(origins: list[list[float]], directions: list[list[float]]) -> Rays:
    d = torch.tensor(directions)
    return Rays(torch.tensor(origins), d / d.norm(dim=-1, keepdim=True))


def random_rays(count: int, seed: int = 0) -> Rays:
    """From a sphere around the unit box towards points within it."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator)
    origins = 3.0 * origins / origins.norm(dim=-1, keepdim=True)
    directions = torch.rand(count, 3, generator=generator) - 0.5 - origins
    return Rays(origins, directions / directions.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("grad", [False, True])
def test_constant_box_has_closed_form_opacity_and_depth(grad: bool) -> None:
    field = Ball(0.8)
    rays = bundle([[-3.0, 0.1, 0.2], [-3.0, -3.0, -3.0], [0.0, 0.3, 0.0]], [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, -1.0]])
    chords, starts = torch.tensor([2.0, math.sqrt(12.0), 1.0]), torch.tensor([2.0, math.sqrt(12.0), 0.0])
    with torch.set_grad_enabled(grad):
        seen = render_rays(field, rays, NOTHING)
    expected = 1.0 - torch.exp(-0.8 * chords)
    # A chord holds a whole number of steps: it is off by at most half a step.
    torch.testing.assert_close(seen.opacity, expected, atol=0.8 * 0.5 * STEP, rtol=0)
    torch.testing.assert_close(seen.rgb, expected[:, None] * field.rgb, atol=0.8 * 0.5 * STEP, rtol=0)
    mean = 1.0 / 0.8 - chords * torch.exp(-0.8 * chords) / expected  # of an exponential cut off at the chord
    torch.testing.assert_close(seen.depth, starts + mean, atol=2 * STEP, rtol=0)
    assert seen.cost is not None
    assert (seen.cost * STEP - chords).abs().max() < STEP


def test_scale_of_the_scene_does_not_matter() -> None:
    # Density is per normalised length: a box 100 times as large looks the same.
    large = Ball(0.8, space=Space((-100.0, -100.0, -100.0), (100.0, 100.0, 100.0)))
    rays = random_rays(50)
    small_seen = render_rays(Ball(0.8), rays, NOTHING)
    seen = render_rays(large, Rays(100.0 * rays.origins, rays.directions), NOTHING)
    torch.testing.assert_close(seen.opacity, small_seen.opacity, atol=2e-3, rtol=0)
    torch.testing.assert_close(seen.depth, 100.0 * small_seen.depth, atol=0.3, rtol=0)


def test_constant_sphere_in_a_long_box() -> None:
    space = Space((-1.0, -0.5, -0.5), (1.0, 0.5, 0.5))
    field = Ball(3.0, radius=0.4, space=space)
    heights = torch.linspace(-0.39, 0.39, 9)
    origins = torch.stack([torch.full_like(heights, -2.0), heights, torch.zeros_like(heights)], -1)
    seen = render_rays(field, Rays(origins, torch.tensor([1.0, 0.0, 0.0]).expand(9, 3)), NOTHING)
    chord = 2.0 * (0.16 - heights**2).sqrt()
    torch.testing.assert_close(seen.opacity, 1.0 - torch.exp(-3.0 * chord), atol=3.0 * math.sqrt(1.5 * 4) / 1024, rtol=0)


def test_gradients_of_density_and_colour() -> None:
    field = Ball(0.8)
    rays = bundle([[-3.0, 0.1, 0.2]], [[1.0, 0.0, 0.0]])
    seen = render_rays(field, rays, NOTHING)
    (slope,) = torch.autograd.grad(seen.opacity.sum(), field.log_density, retain_graph=True)
    assert float(slope) == pytest.approx(0.8 * 2.0 * math.exp(-1.6), rel=5e-3)  # d/ds of 1 - exp(-e^s L)
    (slope,) = torch.autograd.grad(seen.rgb[:, 1].sum(), field.rgb)
    torch.testing.assert_close(slope, torch.tensor([0.0, float(seen.opacity.detach()), 0.0]))


def test_rounds_equal_the_differentiable_path() -> None:
    field, rays = SoftBall(30.0), random_rays(300)
    settings = RenderSettings(steps=256, background="black", normals=True)
    with torch.no_grad():
        rounds = render_rays(field, rays, settings)
    whole = render_rays(field, rays, settings)
    assert torch.equal(rounds.cost, whole.cost)
    for name in ("rgb", "opacity", "depth", "normals"):
        torch.testing.assert_close(getattr(rounds, name), getattr(whole, name).detach(), atol=5e-4, rtol=0)
    assert whole.rgb.requires_grad
    assert not rounds.rgb.requires_grad


def test_termination_stops_early_and_changes_little() -> None:
    field, rays = Ball(50.0), random_rays(64)
    with torch.no_grad():
        full = render_rays(field, rays, NOTHING)
        field.evaluations = 0
        short = render_rays(field, rays, replace(NOTHING, termination=1e-3))
    torch.testing.assert_close(short.rgb, full.rgb, atol=1.5e-3, rtol=0)
    # Transmittance falls below 1e-3 after ln(1000) / 50 of length: that many samples, and one that crosses the line.
    needed = math.log(1000.0) / 50.0 / STEP
    assert int(short.cost.max()) <= needed + 2
    assert int(short.cost.min()) >= needed - 1
    assert field.evaluations < 64 * (needed + 33)


def test_gradient_reaches_live_samples_only() -> None:
    class Slab(Ball):
        """A parameter per octant of x: what lies behind an opaque front must get no gradient."""

        def __init__(self) -> None:
            super().__init__(100.0)
            self.slabs = nn.Parameter(torch.full((8,), math.log(100.0)))

        def geometry(self, positions, times=None):  # type: ignore[no-untyped-def]
            index = ((positions[:, 0] + 1) * 4).long().clamp(0, 7)
            return super().geometry(positions)._replace(log_density=self.slabs[index])

    field = Slab()
    seen = render_rays(field, bundle([[-3.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]), RenderSettings(background="black"))
    seen.rgb.sum().backward()
    assert field.slabs.grad[0] != 0.0
    assert (field.slabs.grad[1:] == 0.0).all()


@pytest.mark.parametrize(("density", "looks_first"), [(50.0, True), (0.5, False)])
def test_ends_of_rays_are_looked_for_where_many_samples_lie_behind_them(density: float, looks_first: bool) -> None:
    """A field that leaves idle samples out of its backward pass answers as any other, and is not asked in vain."""
    settings, rays = RenderSettings(background="black"), random_rays(64)
    plain, sparing = Ball(density, 0.9), Ball(density, 0.9)
    sparing.drops_idle_samples = True  # type: ignore[misc]
    seen = [render_rays(field, rays, settings) for field in (plain, sparing)]
    torch.testing.assert_close(seen[1].rgb, seen[0].rgb)
    assert seen[0].cost is not None and seen[1].cost is not None
    assert torch.equal(seen[0].cost, seen[1].cost)
    for field, found in zip((plain, sparing), seen, strict=True):
        found.rgb.square().sum().backward()
        assert field.log_density.grad is not None
    torch.testing.assert_close(sparing.log_density.grad, plain.log_density.grad)
    with torch.no_grad():
        marched = int(render_rays(Ball(1e-9), rays, settings).cost.sum())  # type: ignore[union-attr]
    assert (sparing.evaluations < 0.7 * marched) == looks_first
    assert sparing.evaluations < 1.1 * marched


def test_backgrounds() -> None:
    field = Ball(0.5)
    rays = bundle([[-3.0, 0.0, 0.0], [-3.0, 5.0, 0.0]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    nothing = render_rays(field, rays, NOTHING)
    left = (1.0 - nothing.opacity)[:, None]
    for name, color in (("white", 1.0), ("black", 0.0)):
        seen = render_rays(field, rays, replace(NOTHING, background=name))
        torch.testing.assert_close(seen.rgb, nothing.rgb + left * color)
        torch.testing.assert_close(seen.rgb[1], torch.full((3,), color))
    behind = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    torch.testing.assert_close(render_rays(field, rays, NOTHING, background=behind).rgb, nothing.rgb + left * behind)
    torch.testing.assert_close(render_rays(field, rays, NOTHING, background=behind[0]).rgb, nothing.rgb + left * behind[0])
    with pytest.raises(UserError, match="no learned background"):
        render_rays(field, rays, replace(NOTHING, background="learned"))
    with pytest.raises(UserError, match="'pink'"):
        render_rays(field, rays, replace(NOTHING, background="pink"))
    field.background = nn.Parameter(torch.tensor([0.0, 2.0, -2.0]))
    seen = render_rays(field, rays, replace(NOTHING, background="learned"))
    torch.testing.assert_close(seen.rgb[1], torch.sigmoid(field.background))
    seen.rgb[1].sum().backward()
    assert (field.background.grad > 0).all()


def test_rays_that_miss_or_hold_nan_see_the_background() -> None:
    nan, inf = math.nan, math.inf
    rays = Rays(
        torch.tensor([[-3.0, 0.0, 0.0], [nan, 0.0, 0.0], [-3.0, 0.0, 0.0], [inf, 0.0, 0.0], [-3.0, 4.0, 0.0], [-3.0, 0.0, 0.0]]),
        torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [nan, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    )
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            seen = render_rays(Ball(5.0), rays, RenderSettings(background="white", normals=True))
        assert (seen.opacity == 0).all()
        assert (seen.depth == 0).all()
        assert (seen.rgb == 1).all()
        assert (seen.normals == 0).all()
        assert int(seen.cost.sum()) == 0


def test_no_rays() -> None:
    none = Rays(torch.zeros(0, 3), torch.zeros(0, 3))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            seen = render_rays(Ball(1.0), none, RenderSettings(normals=True))
        assert seen.rgb.shape == (0, 3)
        assert seen.depth.shape == seen.opacity.shape == seen.cost.shape == (0,)
        assert seen.normals.shape == (0, 3)


def test_near_far_of_rays_and_settings() -> None:
    field = Ball(0.8)
    rays = bundle([[-3.0, 0.0, 0.0]] * 3, [[1.0, 0.0, 0.0]] * 3)
    rays.near, rays.far = torch.tensor([0.0, 3.0, 2.5]), torch.tensor([3.0, math.inf, 3.5])
    seen = render_rays(field, rays, NOTHING)
    torch.testing.assert_close(seen.opacity, 1.0 - torch.exp(-0.8 * torch.ones(3)), atol=0.5 * 0.8 * STEP, rtol=0)
    inside = bundle([[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]])
    seen = render_rays(field, inside, replace(NOTHING, near=0.4))
    torch.testing.assert_close(seen.opacity, 1.0 - torch.exp(torch.tensor([-0.8 * 0.6])), atol=0.5 * 0.8 * STEP, rtol=0)


def test_jitter_moves_samples_reproducibly() -> None:
    field, rays = Ball(3.0, radius=0.4), random_rays(64)
    settings = replace(NOTHING, steps=64, jitter=True)
    first = render_rays(field, rays, settings, generator=torch.Generator().manual_seed(1)).opacity
    again = render_rays(field, rays, settings, generator=torch.Generator().manual_seed(1)).opacity
    other = render_rays(field, rays, settings, generator=torch.Generator().manual_seed(2)).opacity
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    middle = render_rays(field, rays, replace(settings, jitter=False)).opacity
    assert torch.equal(middle, render_rays(field, rays, settings, jitter=torch.full((64,), 0.5)).opacity)


def test_occupancy_hides_what_it_marks_empty() -> None:
    field = Ball(0.8)
    field.occupancy.bits[:16] = False  # the half of low x
    with torch.no_grad():
        seen = render_rays(field, bundle([[-3.0, 0.1, 0.1]], [[1.0, 0.0, 0.0]]), NOTHING)
    assert float(seen.opacity) == pytest.approx(1.0 - math.exp(-0.8), abs=0.8 * STEP)


@torch.no_grad()
def test_unbounded_space_reaches_far() -> None:
    space = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), unbounded=True)
    rays = bundle([[0.0, 0.0, 0.0]] * 3, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.3, 0.2]])
    for distance, radius in ((1.5, 0.4), (20.0, 4.0), (150.0, 30.0)):
        field = Ball(50.0 / radius, radius=radius, space=space, centre=(distance, 0.0, 0.0))
        seen = render_rays(field, rays, RenderSettings(background="black"))
        assert float(seen.opacity[0]) == pytest.approx(1.0, abs=1e-3)
        # The last step before the ball may straddle its surface, and the mean lies a fiftieth of the radius behind it.
        assert float(seen.depth[0]) == pytest.approx(distance - 0.98 * radius, abs=0.02 * radius + distance / 256)
        assert (seen.opacity[1:] == 0).all()
    fog = render_rays(Ball(1e-3, space=space), rays, replace(NOTHING, termination=1e-4))
    assert (fog.opacity > 0.5).all()  # a thin fog over hundreds of box sizes
    assert torch.isfinite(fog.rgb).all()


def test_normals_of_a_ball_point_outwards() -> None:
    field = SoftBall(60.0)
    view = Camera.perspective(24, 24, 40.0, look_at((0.0, -2.0, 0.7), (0.0, 0.0, 0.0)))
    seen = render_image(field, view, RenderSettings(background="black", normals=True))
    hit = seen.opacity > 0.99
    assert int(hit.sum()) > 100
    rays = view.rays()
    points = (rays.origins + rays.directions * seen.depth.reshape(-1, 1)).reshape(24, 24, 3)
    outward = points / points.norm(dim=-1, keepdim=True)
    assert float((outward[hit] * seen.normals[hit]).sum(-1).min()) > 0.99
    torch.testing.assert_close(seen.normals[hit].norm(dim=-1), torch.ones(int(hit.sum())), atol=1e-5, rtol=0)
    assert (seen.normals[seen.opacity == 0] == 0).all()


@pytest.mark.parametrize(("width", "height"), [(33, 17), (16, 32), (5, 40)])
def test_image_is_its_rays_row_by_row(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmorph.render.renderer.SHORT_CHUNK", 100)
    field = Ball(3.0, radius=0.7, centre=(0.2, 0.1, -0.1))
    view = Camera.perspective(width, height, 45.0, look_at((3.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    told: list[float] = []
    image = render_image(field, view, RenderSettings(), progress=told.append)
    with torch.no_grad():
        flat = render_rays(field, view.rays(), RenderSettings())
    for name in ("rgb", "depth", "opacity", "cost"):
        torch.testing.assert_close(getattr(image, name).flatten(0, 1), getattr(flat, name))
    assert image.rgb.shape == (height, width, 3)
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_tile_order_keeps_squares_together() -> None:
    order, inverse = tile_order(40, 24, 16)
    assert torch.equal(order[inverse], torch.arange(40 * 24))
    first = order[:256]
    assert int((first % 40).max()) == 15
    assert int((first // 40).max()) == 15


def test_cancel() -> None:
    view = Camera.perspective(8, 8, 45.0, look_at((3.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    with pytest.raises(Cancelled):
        render_image(Ball(1.0), view, RenderSettings(), cancel=lambda: True)


def test_rays_index_and_space_default() -> None:
    rays = random_rays(5)
    assert len(rays[:2]) == 2
    assert UNIT_BOX.scale == 1.0
