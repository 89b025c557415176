"""Teachers of every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from distill_cases import ball, options

from fieldmorph.distill import distill_field
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Field]:
    """A teacher of any family, made once: the ball, distilled where it is not voxels. Each caller gets a copy of its own."""
    folder = tmp_path_factory.mktemp("teachers")
    made: dict[str, Path] = {}

    def teacher(family: str) -> Field:
        if family == "voxels":
            return ball()
        if family not in made:
            steps = 400 if family == "mlp" else 250
            made[family] = distill_field(ball(), options(family, steps=steps), folder / family, precision="float32").path
        return load_field(made[family])

    return teacher
