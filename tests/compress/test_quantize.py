"""Sensitivities against explicit derivatives; steps, rates and the search they serve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fieldmorph.compress.quantize import _part_plan, _quantise_part, apply, make_plan, quantise
from fieldmorph.compress.search import Candidate, Goal, search
from fieldmorph.compress.sensitivity import random_rays, sensitivities
from fieldmorph.render.renderer import render_rays
from fieldmorph.render.types import RenderSettings
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field, save_field
from fieldmorph.representations.packing import Part

SETTINGS = RenderSettings(steps=64)


def mse(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


def test_sensitivity_predicts_the_error(field: Field) -> None:
    """Small random errors of each tensor raise the mean squared error by sum(h e^2)."""
    h = sensitivities(field, SETTINGS, rounds=24, rays=512)
    rays = random_rays(field, 4096, torch.Generator().manual_seed(7))
    with torch.no_grad():
        before = render_rays(field, rays, SETTINGS).rgb
        for name, parameter in field.named_parameters():
            kept = parameter.clone()
            found = []
            for seed in range(6):
                error = 1e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                parameter.copy_(kept + error)
                found.append(mse(render_rays(field, rays, SETTINGS).rgb, before))
            parameter.copy_(kept)
            predicted = 1e-6 * float(h[name].sum())
            assert 0.5 < np.mean(found) / predicted < 2.0, name


def test_sensitivity_leaves_no_trace(field: Field) -> None:
    before = {name: tensor.clone() for name, tensor in field.state_dict().items()}
    sensitivities(field, SETTINGS, rounds=1, rays=64)
    assert all(p.grad is None for p in field.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in field.state_dict().items())


def test_coarser_steps_cost_less_and_err_more(field: Field, tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(field, sensitivities(field, SETTINGS, rounds=8, rays=512))
    rays = random_rays(field, 2048, torch.Generator().manual_seed(7))
    original = {name: p.detach().clone() for name, p in field.named_parameters()}
    sizes, errors = [], []
    with torch.no_grad():
        before = render_rays(field, rays, SETTINGS).rgb
        for step in (1e-5, 1e-4, 1e-3):
            coded = quantise(field, plan, step)
            apply(field, plan, coded)
            save_field(field, tmp_path / "f.field", "float16", coded)
            sizes.append((tmp_path / "f.field").stat().st_size)
            errors.append(mse(render_rays(field, rays, SETTINGS).rgb, before))
            again = load_field(tmp_path / "f.field")
            assert all(torch.equal(p, dict(again.named_parameters())[n]) for n, p in field.named_parameters())
            field.load_state_dict(original, strict=False)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1.3 * sizes[2]
    assert errors == sorted(errors) and errors[2] > 4 * errors[0]


def test_pressure_leaves_less_that_is_not_zero(field: Field) -> None:
    plan = make_plan(field, {n: torch.ones_like(p) for n, p in field.named_parameters()})
    found = [
        sum(int((part.symbols != 0).sum()) for part in quantise(field, plan, 0.3, pressure)["encoder.table"]) for pressure in (0.01, 16.0)
    ]
    assert found[1] < 0.7 * found[0]


def test_tables_of_signs_become_binary(field: Field) -> None:
    """Where every number is +s or -s, one bit each is exact."""
    table = field.get_parameter("encoder.table")
    with torch.no_grad():
        table.copy_(torch.where(table > 0, 0.5, -0.5))
    plan = make_plan(field, {n: torch.full_like(p, 1e-4) for n, p in field.named_parameters()})
    coded = quantise(field, plan, 1e-5)["encoder.table"]
    hashed = [part for entry, part in zip(plan["encoder.table"], coded, strict=True) if entry.part.by_feature]
    assert hashed and all(part.binary for part in hashed)


def law(step: float) -> Candidate:
    """Size and loss as they come out on real fields, with a kink."""
    return Candidate(step, int(2e5 * (step / 1e-5) ** -0.7) + 20000, 0.3 * (step / 1e-5) ** (1.1 if step < 2e-5 else 1.6))


@pytest.mark.parametrize("goal", [Goal(size=500_000), Goal(size=40_000), Goal(drop=0.05), Goal(drop=3.0)])
def test_search_meets_its_goal(goal: Goal) -> None:
    tried: list[Candidate] = []
    best = search(law, goal, on_try=tried.append)
    assert 0.93 < goal.spent(best) <= 1.0
    assert len(tried) <= 9


@pytest.mark.parametrize("start", [3e-8, 8e-6, 5e-3])
def test_search_where_fine_steps_lose_nothing(start: float) -> None:
    """Quantising a little may even help; far too coarse steps lose all there is. Neither sends the search astray."""

    def lossless(step: float) -> Candidate:
        found = law(step)
        return Candidate(step, found.size, -0.01 if step < 2e-5 else min(20.0, 0.05 * (step / 2e-5) ** 1.5))

    tried: list[Candidate] = []
    best = search(lossless, Goal(drop=0.2), start=start, on_try=tried.append)
    assert 0.9 < best.drop / 0.2 <= 1.0
    assert max(candidate.step for candidate in tried) <= 1.001 * max(start, 3e-4)


def test_search_says_the_nearest_of_what_cannot_be() -> None:
    goal = Goal(size=19_000)
    best = search(law, goal)
    assert goal.spent(best) > 1.0
    assert math.isclose(best.size, 20000, rel_tol=0.3)


def test_nearly_empty_space_is_not_traded_for_fewer_bits() -> None:
    """A derivative says that a logarithm of density of -3 hardly matters; as 0, the cheapest symbol, it would be fog."""
    thin = -2.0 - 2.0 * np.random.default_rng(0).random(50)
    s = np.concatenate([np.zeros(3000), thin]).astype(np.float32)[:, None]
    h = np.exp(2.0 * s)  # of a sum of densities
    found = {}
    for logarithmic in (False, True):
        part = _part_plan(Part(0, len(s), 61, 50, logarithmic=logarithmic), h)
        found[logarithmic] = _quantise_part(part, s, 0.5, 1.0).values(part.part)[3000:]
    assert (found[False] > -0.5).any(), "by derivatives alone"
    assert float(np.abs(found[True] - s[3000:]).max()) < 1.0
