"""Stages follow each other, and each trains only what it should."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distill_cases import BOX, SMALL, ball, options

from fieldmorph.distill import Distiller, DistillOptions, distill_field
from fieldmorph.distill.agreement import agreement
from fieldmorph.distill.inherit import (
    can_be_read_off,
    fine_from_the_start,
    inherit_content,
    inherit_occupancy,
    inherit_weights,
    new_student,
    resized,
)
from fieldmorph.distill.losses import HIGHEST, LOWEST, clamped, density_shift, rms
from fieldmorph.representations.field import Field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.representations.voxels import VoxelOptions
from fieldmorph.training.budget import Budget
from fieldmorph.training.evaluation import eval_settings
from fieldmorph.training.recipes import recipe_for
from fieldmorph.training.teacher import Teacher
from fieldmorph.training.trainer import StepStats


def distiller(teacher: Field, to: str, **more: object) -> Distiller:
    wanted = options(to, **more)
    student = new_student(teacher, to, wanted.family_options, 0)
    if wanted.inherit:
        inherit_weights(student, teacher)
        inherit_occupancy(student, teacher)
    recipe = recipe_for(to).with_overrides(None, 1024)
    return Distiller(
        student, Teacher(teacher, steps=64), wanted, recipe, Budget(wanted.steps), eval_settings(student), lambda n, g: torch.zeros(3)
    )


def hash_teacher() -> Field:
    field = build("hashgrid", SMALL["hashgrid"], BOX, 3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    field.metadata["cameras"] = ball().metadata["cameras"]
    return field


def test_stages_share_the_budget() -> None:
    wanted = DistillOptions(photographs=0.2)
    assert [wanted.stage_at(p, True) for p in (0.0, 0.14, 0.15, 0.49, 0.5, 0.79, 0.8, 1.0)] == [
        *("features", "features", "points", "points", "rays", "rays", "photographs", "photographs")
    ]
    assert wanted.stage_at(0.0, handover=False) == "points"
    assert replace(wanted, progressive=False).stage_at(0.0, True) == "rays"


def test_each_stage_trains_what_it_should() -> None:
    run = distiller(hash_teacher(), "vm", steps=30)
    seen: dict[str, set[str]] = {}
    while not run.budget.done:
        before = {name: p.detach().clone() for name, p in run.field.named_parameters()}
        stats: StepStats = run.step()
        changed = {
            name.split(".")[0]
            for name, p in run.field.named_parameters()
            if p.shape == before[name].shape and not torch.equal(p.detach(), before[name])
        }
        seen[stats.stage] = seen.get(stats.stage, set()) | changed
        terms = {"features": {"features"}, "points": {"features", "density", "color"}}
        assert set(stats.terms) == terms.get(stats.stage, {"features", "density", "color", "rgb", "prior"})
    assert seen == {"features": {"encoder"}, "points": {"encoder", "color_head"}, "rays": {"encoder", "color_head"}}


def test_voxels_have_no_features_to_compare() -> None:
    run = distiller(ball(), "hashgrid", steps=20)
    stages = []
    while not run.budget.done:
        stats = run.step()
        stages.append(stats.stage)
        assert "features" not in stats.terms
    assert set(stages) == {"points", "rays"}


def test_clamped_density_stays_in_range_and_passes_gradients() -> None:
    s = torch.tensor([-20.0, 0.5, 30.0], requires_grad=True)
    inside = clamped(s)
    assert inside.tolist() == [LOWEST, 0.5, HIGHEST]
    inside.sum().backward()
    assert s.grad is not None and s.grad.tolist() == [1.0, 1.0, 1.0]


def test_log_densities_are_compared_per_length_of_the_same_box() -> None:
    small = Space((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    # exp(s) * scale is the density per world length, which both must agree on.
    shift = density_shift(BOX, small)
    assert math.exp(1.3 + shift) * small.scale == pytest.approx(math.exp(1.3) * BOX.scale)


def test_root_mean_square_does_not_depend_on_the_batch() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert float(rms(torch.cat([x, x]))) == pytest.approx(float(rms(x)))
    flat = torch.zeros(4, requires_grad=True)
    rms(flat).backward()
    assert flat.grad is not None and bool(torch.isfinite(flat.grad).all())


def test_what_is_inherited() -> None:
    teacher = hash_teacher()
    student = new_student(teacher, "mlp", SMALL["mlp"], 0)
    taken = inherit_weights(student, teacher)
    assert taken == ["encoder.head.weights.0", "encoder.head.weights.1", *(f"color_head.weights.{i}" for i in range(3))]
    for name in taken:
        assert torch.equal(dict(student.named_parameters())[name], dict(teacher.named_parameters())[name])
    same = new_student(teacher, "hashgrid", SMALL["hashgrid"], 9)
    assert len(inherit_weights(same, teacher)) == len(list(same.parameters()))


@pytest.mark.parametrize(("theirs", "mine"), [(16, 16), (16, 8), (8, 16), (12, 7), (7, 12)])
def test_inherited_occupancy_covers_the_teachers(theirs: int, mine: int) -> None:
    smaller = Space((-0.7, -0.6, -0.5), (0.8, 0.7, 0.9))
    for space in (BOX, smaller):
        teacher = build("voxels", {**SMALL["voxels"], "occupancy": theirs}, BOX)
        student = build("voxels", {**SMALL["voxels"], "occupancy": mine}, space)
        teacher.occupancy.restrict(torch.rand(theirs, theirs, theirs, generator=torch.Generator().manual_seed(0)) < 0.02)
        inherit_occupancy(student, teacher)
        points = smaller.from_unit(torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1)))

        def at(field: Field, points: torch.Tensor = points) -> torch.Tensor:
            cell = (field.space.to_unit(points) * field.occupancy.resolution).long()
            return field.occupancy.bits[cell[:, 0], cell[:, 1], cell[:, 2]]

        missed = (at(teacher) & ~at(student)).float().sum() / at(teacher).float().sum()
        assert float(missed) == 0.0 if space is BOX else float(missed) < 0.1
        assert student.occupancy.occupied_fraction < (0.5 if space is BOX else 0.6)
    assert torch.equal(resized(teacher.occupancy.bits, theirs), teacher.occupancy.bits)


def test_voxels_begin_as_what_can_be_read_off() -> None:
    """From a teacher of another kind and box: before any step the student shows the teacher's picture."""
    teacher = hash_teacher()
    teacher.occupancy.restrict(ball().occupancy.bits)
    wanted = fine_from_the_start({"degree": 2, "occupancy": 32, "max_rows": 40_000})
    assert wanted["start"] == VoxelOptions.final and wanted["marks"] == (0.0,)
    assert fine_from_the_start({"start": 24}) == {"start": 24}
    assert can_be_read_off(teacher, "voxels", {}, None) and not can_be_read_off(teacher, "vm", {}, None)
    assert not can_be_read_off(teacher, "voxels", {}, 1e-3), "no budget for it"
    student = new_student(teacher, "voxels", wanted, 0)
    inherit_occupancy(student, teacher)
    blank = agreement(student, teacher)
    inherit_content(student, teacher)
    assert student.space.size[0] < 0.9 * teacher.space.size[0], "the box shrinks to where matter is"
    assert agreement(student, teacher) > max(25.0, blank + 10.0)


def test_without_inheritance_the_student_finds_its_own_occupancy(tmp_path: Path) -> None:
    teacher = ball()
    result = distill_field(teacher, options("hashgrid", inherit=False, steps=120), tmp_path / "run")
    assert (
        teacher.occupancy.occupied_fraction < 0.5 * result.field.occupancy.occupied_fraction
        or result.field.occupancy.occupied_fraction < 1.0
    )
    assert result.field.occupancy.occupied_fraction < 0.9
