"""Active learning looks where student and teacher differ."""

from __future__ import annotations

import torch
from distill_cases import ball, cameras, options

from fieldmorph.distill import Distiller
from fieldmorph.distill.active import BATCHES, POSES, HardPoses, HardRays, heavy_points, worst_views
from fieldmorph.distill.inherit import inherit_occupancy, new_student
from fieldmorph.render.types import Rays
from fieldmorph.training.budget import Budget
from fieldmorph.training.evaluation import eval_settings
from fieldmorph.training.recipes import recipe_for
from fieldmorph.training.teacher import Lesson, Teacher


def lesson(rays: int = 300) -> Lesson:
    teacher, generator = Teacher(ball(), steps=64), torch.Generator().manual_seed(0)
    return teacher.lesson(teacher.poses.draw(16, generator), rays, generator)


def side(teacher: Teacher, taught: Lesson) -> torch.Tensor:
    """Weighted mean x of what the teacher shows along each ray, [R]."""
    seen = teacher.answer(Rays(taught.origins, taught.directions), torch.Generator().manual_seed(0))
    positions, _ = seen.positions()
    total = torch.zeros(len(seen)).index_add_(0, seen.ray, seen.weight * positions[:, 0])
    return total / seen.opacity.clamp_min(1e-6)


def test_worst_views_are_those_with_the_largest_mean_error() -> None:
    errors, rays = torch.tensor([5.0, 90.0, 2.0, 0.0, 8.0]), torch.tensor([10.0, 100.0, 1.0, 0.0, 4.0])
    assert worst_views(errors, rays, 2) == [2, 4]
    assert worst_views(errors, torch.zeros(5), 2) == []


def test_hard_poses_come_back_turned_and_their_places_are_used_again() -> None:
    memory, generator = HardPoses(), torch.Generator().manual_seed(0)
    fresh, hard = cameras(20), cameras(6, radius=3.0)
    assert memory.mix(fresh, hard, generator) == fresh, "nothing was hard before"
    mixed = memory.mix(fresh, [], generator)
    new = [camera for camera in mixed if all(camera is not other for other in fresh)]
    assert len(new) == 2 and len(mixed) == 20
    for camera in new:
        assert min(float(abs(camera.position - other.position).max()) for other in hard) == 0.0
    while len(memory.cameras) < POSES:
        memory.mix(fresh, hard, generator)
    memory.mix(fresh, cameras(6, radius=2.0), generator)
    assert len(memory.cameras) == POSES
    assert sum(abs(float((c.position**2).sum()) - 4.0) < 1e-9 for c in memory.cameras) == 2


def test_remembered_rays_are_the_hard_ones_and_give_way_once_trained() -> None:
    memory, generator = HardRays(), torch.Generator().manual_seed(0)
    taught = lesson()
    difference = torch.rand(len(taught), generator=generator)
    for _ in range(BATCHES):
        assert memory.draw(generator) is None
        memory.put(taught, difference)
    hard = memory.draw(generator)
    assert hard is not None and len(hard) == 30 and bool((hard.view == -1).all())
    worst = taught.choose(torch.topk(difference, 30).indices)
    assert torch.equal(hard.origins, worst.origins) and torch.equal(hard.color, worst.color)
    assert bool((taught.view >= 0).all()), "the lesson itself is left alone"
    memory.put(taught, -difference)
    assert len(memory.memory) == BATCHES
    assert sum(not torch.equal(kept.origins, worst.origins) for kept in memory.memory) == 1


def test_heavy_points_make_up_their_rays() -> None:
    taught = lesson()
    heavy = heavy_points(taught.weight, taught)
    for ray in range(len(taught)):
        mine = taught.ray == ray
        weight, chosen = taught.weight[mine], heavy[mine]
        total = float(weight.sum())
        if total < 0.499:
            assert not bool(chosen.any())
        elif total > 0.501:
            count = -(-3 * len(weight) // 10)
            assert int(chosen.sum()) == count
            assert float(weight[chosen].min()) >= float(torch.cat([weight[~chosen], weight.new_zeros(1)]).max())
    assert 0.15 < float(heavy.float().mean()) < 0.5
    assert float(taught.weight[heavy].sum() / taught.weight.sum()) > 0.6
    assert not bool(heavy_points(taught.weight[:0], taught.choose(torch.zeros(0, dtype=torch.int64))).any())


def test_sampling_concentrates_where_the_student_is_wrong() -> None:
    """A student that is right but for the colours at x > 0, and that does not learn: hard rays and poses gather there."""
    teacher = ball()
    wanted = options("voxels", steps=400, active_points=False, progressive=False)
    student = new_student(teacher, "voxels", wanted.family_options, 0)
    student.load_state_dict(teacher.state_dict())
    inherit_occupancy(student, teacher)
    with torch.no_grad():
        x = torch.linspace(-1.0, 1.0, student.grid[0])
        wrong = (x > 0.0)[:, None, None].expand(student.grid).reshape(-1)
        student.sh_data[wrong] += 2.0
    student.done.fill_(100)  # no pruning, no refinement
    recipe = recipe_for("voxels").with_overrides(1e-12, 1024)
    run = Distiller(student, Teacher(teacher, steps=64), wanted, recipe, Budget(400), eval_settings(student), lambda n, g: torch.zeros(3))
    for _ in range(BATCHES + 40):
        run.step()
    remembered = side(run.teacher, Lesson.joined(run.hard_rays.memory))
    offered = side(run.teacher, Lesson.joined([kept.lesson for kept in run.pictures.kept]))
    assert 0.3 < float((offered > 0).float().mean()) < 0.7
    assert float((remembered > 0).float().mean()) > 0.95
    while run.pictures.made < 6:
        run.pictures.used += 500  # as if more had been learned
        run.step()
    assert run.pictures.poses is not None
    hard = [camera.position[0] for camera in run.pictures.poses.cameras]
    drawn = [camera.position[0] for kept in run.pictures.kept for camera in kept.cameras]
    assert sum(hard) / len(hard) > 1.0 + sum(drawn) / len(drawn)
