"""A teacher's answers are what rendering shows, its cameras stay where it was photographed from, and its pool resumes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldmorph.kernels import set_kernels
from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.renderer import render_rays, seen_samples
from fieldmorph.render.types import Rays, RenderSettings
from fieldmorph.representations.field import Field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.training.poses import PoseSource, turned
from fieldmorph.training.teacher import EMPTY, Lesson, Teacher, TeacherBatches

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
OPTIONS = {"levels": 4, "features": 2, "log2_table": 10, "base": 4, "finest": 32, "hidden": 16, "occupancy": 16}


def ring(count: int = 12, radius: float = 4.0, elevation: float = 0.4) -> list[Camera]:
    poses = []
    for turn in np.arange(count) * 2 * math.pi / count:
        arm = np.array([math.cos(elevation) * math.cos(turn), math.cos(elevation) * math.sin(turn), math.sin(elevation)])
        poses.append(look_at(radius * arm, (0.0, 0.0, 0.0)))
    return [Camera.perspective(20, 20, 30.0, pose) for pose in poses]


def cloud(family: str = "hashgrid", options: dict[str, object] = OPTIONS) -> Field:
    """A field with matter of many densities, half of whose cells are empty."""
    field = build(family, options, BOX, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    field.occupancy.restrict(torch.rand(field.occupancy.bits.shape, generator=generator) < 0.5)
    field.metadata["cameras"] = [camera.to_dict() for camera in ring()]
    return field


@pytest.fixture(params=["auto", "reference"])
def kernels(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    set_kernels(request.param)
    yield request.param
    set_kernels("auto")


def lesson_of(field: Field, rays: int = 200) -> tuple[Teacher, Lesson]:
    teacher, generator = Teacher(field, steps=64), torch.Generator().manual_seed(2)
    return teacher, teacher.lesson(teacher.poses.draw(8, generator), rays, generator)


def test_new_cameras_stand_between_the_recorded_ones() -> None:
    source = PoseSource(ring(), BOX)
    for camera in source.draw(50, torch.Generator().manual_seed(0)):
        assert np.linalg.norm(camera.position - source.centre) == pytest.approx(4.0, rel=0.02)
        assert math.asin(camera.position[2] / np.linalg.norm(camera.position)) == pytest.approx(0.4, abs=0.3)
        toward = (source.centre - camera.position) / np.linalg.norm(source.centre - camera.position)
        assert -camera.camera_to_world[:, 2] @ toward > math.cos(0.02)
        np.testing.assert_allclose(camera.camera_to_world[:, :3] @ camera.camera_to_world[:, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(camera.camera_to_world[:, :3]) > 0


def test_a_field_without_cameras_is_seen_from_all_around() -> None:
    positions = np.stack([camera.position for camera in PoseSource([], BOX).draw(100, torch.Generator().manual_seed(0))])
    assert positions.min(0).max() < -1.0 and positions.max(0).min() > 1.0


def test_one_camera_is_drawn_as_it_is() -> None:
    (only,) = ring(1)
    for camera in PoseSource([only], BOX).draw(3, torch.Generator().manual_seed(0)):
        np.testing.assert_array_equal(camera.camera_to_world, only.camera_to_world)


def test_turning_keeps_the_place_and_the_limit() -> None:
    camera, most = ring(1)[0], math.pi / 20
    for seed in range(20):
        other = turned(camera, most, torch.Generator().manual_seed(seed))
        np.testing.assert_array_equal(other.position, camera.position)
        relative = camera.camera_to_world[:, :3].T @ other.camera_to_world[:, :3]
        assert 0.0 < math.acos(min(1.0, 0.5 * (np.trace(relative) - 1.0))) < math.sqrt(3.0) * most


def test_seen_samples_are_those_a_rendering_spends(kernels: str) -> None:
    field = cloud()
    teacher, lesson = lesson_of(field)
    settings = RenderSettings(steps=64, termination=1e-3)
    rays = Rays(lesson.origins, lesson.directions)
    with torch.no_grad():
        cost = render_rays(field, rays, settings).cost
    assert cost is not None and torch.equal(seen_samples(field, rays, settings).offsets.diff(), cost)


@pytest.mark.parametrize("family", ["hashgrid", "voxels", "mlp"])
def test_a_lesson_is_what_rendering_shows(family: str, kernels: str) -> None:
    small = {"mlp": {"octaves": 3, "layers": 3, "width": 16, "occupancy": 16}, "voxels": {"start": 8, "final": 8, "occupancy": 16}}
    field = cloud(family, small.get(family, OPTIONS))
    teacher = Teacher(field, steps=64)
    teacher.settings = replace(teacher.settings, jitter=False)
    generator = torch.Generator().manual_seed(2)
    lesson = teacher.lesson(teacher.poses.draw(8, generator), 200, generator)
    with torch.no_grad():
        seen = render_rays(field, Rays(lesson.origins, lesson.directions), replace(teacher.settings, background="none"))
    torch.testing.assert_close(lesson.rgb, seen.rgb, atol=2e-3, rtol=0)
    torch.testing.assert_close(lesson.opacity, seen.opacity, atol=2e-3, rtol=0)
    positions, directions = lesson.positions()
    with torch.no_grad():
        geometry = field.geometry(positions)
        inside = geometry.gate > 0
        torch.testing.assert_close(lesson.log_density[inside], geometry.log_density[inside].clamp_min(EMPTY), atol=2e-4, rtol=1e-4)
        assert bool((lesson.log_density[~inside] == EMPTY).all())
        torch.testing.assert_close(lesson.color, field.color(geometry.features, directions), atol=2e-4, rtol=0)
    total = torch.zeros(len(lesson)).index_add_(0, lesson.ray, lesson.weight)
    torch.testing.assert_close(total, lesson.opacity, atol=1e-5, rtol=0)


def test_every_ray_of_a_lesson_meets_matter_and_knows_its_camera() -> None:
    _, lesson = lesson_of(cloud())
    assert len(lesson) == 200 and int(lesson.counts.min()) > 0
    assert set(lesson.view.tolist()) == set(range(8))
    assert not any(tensor.requires_grad for tensor in lesson.tensors().values())


def test_parts_and_choices_keep_rays_with_their_samples() -> None:
    _, lesson = lesson_of(cloud())
    halves = Lesson.joined([lesson.part(0, 90), lesson.part(90, 200)])
    for name, tensor in lesson.tensors().items():
        assert torch.equal(getattr(halves, name), tensor), name
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    back = lesson.choose(order).choose(torch.argsort(order))
    for name, tensor in lesson.tensors().items():
        assert torch.equal(getattr(back, name), tensor), name
    none = lesson.choose(order[:0])
    assert len(none) == 0 and none.samples == 0


def test_a_teacher_that_shows_nothing_still_answers() -> None:
    field = cloud()
    field.occupancy.restrict(torch.zeros_like(field.occupancy.bits))
    _, lesson = lesson_of(field, 50)
    assert lesson.samples == 0 and bool((lesson.opacity == 0).all())


def test_batches_show_what_the_teacher_shows_and_resume() -> None:
    field = cloud()
    generator = torch.Generator().manual_seed(4)
    source = TeacherBatches(Teacher(field, steps=64), pool=512, reuse=2)
    batch = source.next(300, generator)
    with torch.no_grad():
        seen = render_rays(field, batch.rays, replace(source.teacher.picture_settings, background="white"))
    torch.testing.assert_close(batch.over(torch.ones(3)), seen.rgb, atol=1e-4, rtol=0)

    kept, state = {name: tensor.clone() for name, tensor in source.state().items()}, generator.get_state()
    expected = [source.next(300, generator) for _ in range(3)]
    other = TeacherBatches(Teacher(field, steps=64), pool=512, reuse=2)
    other.load_state(kept)
    generator.set_state(state)
    for batch in expected:
        again = other.next(300, generator)
        assert torch.equal(batch.rgb, again.rgb) and torch.equal(batch.rays.origins, again.rays.origins)


def test_fresh_rays_replace_the_oldest() -> None:
    source, generator = TeacherBatches(Teacher(cloud(), steps=64), pool=256, reuse=4), torch.Generator().manual_seed(5)
    source.next(1, generator)
    before = source.state()["pool"].clone()
    source.next(399, generator)
    changed = (source.state()["pool"] != before).any(-1)
    assert bool(changed[:100].all()) and not bool(changed[100:].any())
