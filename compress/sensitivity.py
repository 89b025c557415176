"""How much a field's pictures change with each of its numbers: what decides how finely a number must be kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .. import kernels
from ..render.camera import CameraSet
from ..render.overview import recorded_cameras
from ..render.renderer import render_rays
from ..render.types import Rays, RenderSettings
from ..representations.field import Field


def random_rays(field: Field, count: int, generator: torch.Generator) -> Rays:
    """Rays through random places of the pictures of the field's recorded cameras.

    Raises:
        UserError: its cameras make no sense.
    """
    views = CameraSet(recorded_cameras(field), field.device)
    index = torch.randint(len(views), (count,), generator=generator).to(field.device)
    place = torch.rand(count, 2, generator=generator).to(field.device)
    return views.rays(index, place * views.intrinsics[:, 4:].index_select(0, index))


def sensitivities(
    field: Field,
    settings: RenderSettings,
    *,
    rounds: int = 24,
    rays: int = 4096,
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """h of every parameter: errors e of the parameters raise the mean squared colour error by about sum(h e^2).

    h is the mean over pixel values of the squared derivative, the diagonal of the Gauss-Newton matrix, from random
    projections (Hutchinson 1990): the gradient of a randomly signed sum of all pixels, squared, has it as its mean.
    """
    generator = torch.Generator().manual_seed(seed)
    settings = replace(settings, jitter=True)
    total = {name: torch.zeros_like(p) for name, p in field.named_parameters()}
    kept = {name: p.grad for name, p in field.named_parameters()}
    for done in range(rounds):
        bundle = random_rays(field, rays, generator)
        signs = (torch.randint(2, (rays, 3), generator=generator) * 2 - 1).to(field.device, torch.float32)
        for parameter in field.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with torch.enable_grad(), kernels.gradients_in_place():
            rgb = render_rays(field, bundle, settings, generator=generator).rgb
            if rgb.requires_grad:
                (rgb * signs).sum().backward()  # type: ignore[no-untyped-call]
        for name, parameter in field.named_parameters():
            assert parameter.grad is not None
            total[name] += parameter.grad.square()
        if on_round is not None:
            on_round(done + 1)
    for name, parameter in field.named_parameters():
        parameter.grad = kept[name]
    return {name: value / (rounds * rays * 3) for name, value in total.items()}
