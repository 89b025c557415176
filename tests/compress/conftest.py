"""A small field with cameras, and the folder it lies in."""

from __future__ import annotations

import math

import pytest
import torch

from fieldmorph.render.camera import Camera, look_at
from fieldmorph.representations.field import Field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
SMALL = {"levels": 4, "features": 2, "log2_table": 11, "base": 4, "finest": 32, "hidden": 16, "occupancy": 16}


def cameras(count: int = 6) -> list[Camera]:
    turns = [2.0 * math.pi * i / count for i in range(count)]
    return [Camera.perspective(24, 24, 40.0, look_at((3.2 * math.cos(a), 3.2 * math.sin(a), 1.0), (0.0, 0.0, 0.0))) for a in turns]


@pytest.fixture
def field() -> Field:
    """A hash grid that shows something: random features, and matter only within a ball."""
    made = build("hashgrid", SMALL, BOX, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        table = made.get_parameter("encoder.table")
        table.copy_(torch.randn(table.shape, generator=generator))
    axis = torch.linspace(-1, 1, 16)
    made.occupancy.restrict(sum(a.square() for a in torch.meshgrid(axis, axis, axis, indexing="ij")) < 0.5)
    made.metadata.update(cameras=[c.to_dict() for c in cameras()], background="white", steps=64)
    return made
