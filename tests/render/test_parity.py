"""The fused renderer and the reference path make the same picture, for every family that has a fused form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fieldmorph import kernels
from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.renderer import render_image, render_rays, which_renderer
from fieldmorph.render.types import RenderSettings
from fieldmorph.representations.field import Field
from fieldmorph.representations.mixed import MixedField
from fieldmorph.representations.registry import build, families, still_families
from fieldmorph.representations.space import Space

SETTINGS = RenderSettings(steps=192, background="white", normals=True)
SMALL = {
    "hashgrid": {"levels": 4, "features": 2, "log2_table": 10, "base": 4, "finest": 64, "hidden": 16},
    "vm": {"start": 12, "final": 20, "density_rank": 4, "color_rank": 6, "hidden": 16},
    "cp": {"start": 12, "final": 20, "density_rank": 8, "color_rank": 12, "hidden": 16},
    "voxels": {"start": 12, "final": 20, "degree": 2},
    "hybrid": {"levels": 3, "features": 2, "log2_table": 9, "base": 4, "finest": 32, "start": 8, "final": 14, "hidden": 16},
    "mixed": {"frames": 4, "start": 12, "final": 20, "density_rank": 4, "color_rank": 6, "hidden": 24, "color_hidden": 16},
    "mlp": {"octaves": 4, "layers": 2, "width": 16, "hidden": 16},
}


@pytest.fixture(autouse=True)
def _kernels_back() -> Iterator[None]:
    before = kernels.chosen()
    yield
    kernels.set_kernels(before)


def lively(name: str, unbounded: bool) -> Field:
    """A small field with structure in density and colour, and a third of its cells marked empty."""
    field = build(name, {**SMALL.get(name, {}), "occupancy": 16}, Space((-1.0, -1.2, -0.8), (1.0, 1.0, 1.1), unbounded), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for label, parameter in field.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.where(parameter.abs() < 1e-3, spread, parameter * (1.0 + 0.5 * spread)))
            if "density" in label:  # some rays must end early
                parameter.copy_(1.0 + 2.0 * spread if name == "voxels" else 1.3 * spread)
    field.occupancy.bits.copy_(torch.rand(16, 16, 16, generator=generator) > 0.33)
    if isinstance(field, MixedField):
        field.split.copy_(torch.rand(16, 16, 16, generator=generator) > 0.5)
    return field.at(0.4).requires_grad_(not field.dynamic)


def camera(size: int = 24) -> Camera:
    return Camera.perspective(size, size, 55.0, look_at((2.2, 1.5, 1.2), (0.0, 0.0, 0.0)))


def decibels(a: Tensor, b: Tensor) -> float:
    return -10.0 * math.log10(float((a - b).square().mean()) + 1e-30)


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("name", sorted(families()))
def test_pictures_agree(name: str, unbounded: bool) -> None:
    field = lively(name, unbounded)
    if which_renderer(field) != "fused":
        pytest.skip(which_renderer(field))
    # Fog without bounds has hundreds of samples on every ray, and a normal costs six densities each.
    # So does a mixed field's reference, which asks two branches.
    view, settings = (camera(8), replace(SETTINGS, normals=False)) if unbounded or name == "mixed" else (camera(16), SETTINGS)
    with kernels.full_precision():
        fused = render_image(field, view, settings)
    as_usual = render_image(field, view, settings)
    assert decibels(as_usual.rgb, fused.rgb) > 50.0  # half-precision storage, where a family has it
    kernels.set_kernels("reference")
    assert which_renderer(field).startswith("reference")
    slow = render_image(field, view, settings)
    assert float(slow.opacity.mean()) > 0.05
    assert decibels(fused.rgb, slow.rgb) > 55.0
    torch.testing.assert_close(fused.opacity, slow.opacity, atol=2e-3, rtol=0)
    # A sample on the edge of termination may count on one side only.
    assert abs(int(fused.cost.sum()) - int(slow.cost.sum())) <= 1e-4 * int(slow.cost.sum()) + 2
    hit = slow.opacity > 0.2
    assert float(((fused.depth - slow.depth).abs() / slow.depth.clamp_min(1.0))[hit].max()) < 1e-2
    if fused.normals is None or slow.normals is None:
        return
    agreement = (fused.normals * slow.normals).sum(-1)[slow.normals.norm(dim=-1) > 0.5]
    assert float(agreement.quantile(0.02)) > 0.999


@pytest.mark.parametrize("name", sorted(still_families()))
def test_gradients_agree(name: str) -> None:
    field = lively(name, False)
    if which_renderer(field) != "fused":
        pytest.skip(which_renderer(field))
    rays = camera(10).rays()
    weights = torch.rand(100, 3, generator=torch.Generator().manual_seed(2))
    settings = RenderSettings(steps=96, background="black", termination=1e-3)

    def gradients() -> list[Tensor]:
        field.zero_grad(set_to_none=True)
        seen = render_rays(field, rays, settings)
        ((seen.rgb * weights).sum() + 0.1 * seen.depth.sum() + seen.opacity.square().sum()).backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for p in field.parameters()]

    fused = gradients()
    kernels.set_kernels("reference")
    slow = gradients()
    for (parameter, _), a, b in zip(field.named_parameters(), fused, slow, strict=True):
        # Summation order and float32 rounding; worst observed 2e-5 of the largest entry.
        assert float((a - b).abs().max()) <= 1e-3 * float(b.abs().max()) + 1e-7, parameter
