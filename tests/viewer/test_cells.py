"""Grids of cells as pictures."""

from __future__ import annotations

import pytest
import torch

from fieldmorph.render.camera import Camera, look_at
from fieldmorph.render.types import RenderSettings
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.viewer.shots import available_modes, shoot


@pytest.mark.parametrize("decided", [False, True])
def test_saliency_shows_the_cells_that_pruning_left(decided: bool) -> None:
    space = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    field = build("hashgrid", {"levels": 2, "log2_table": 8, "saliency": 9, "occupancy": 16}, space, seed=0)
    assert "saliency" in available_modes(field)
    with torch.no_grad():
        logits = field.get_parameter("encoder.saliency").fill_(-12.0)
        logits[:4] = 0.0
    if decided:
        field.encoder.decide(logits.detach() > -1.0)
    camera = Camera.perspective(48, 36, 40.0, look_at((0.0, -5.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    hit = shoot(field, camera, RenderSettings(), "saliency").opacity > 0.5
    assert hit[18, 13:22].all()
    assert not hit[:, 28:].any()
