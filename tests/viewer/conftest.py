"""What the viewer's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from session import Screen, needs_window
from viewer_fields import BLUE, GREEN, blocks

from fieldmorph.representations.field_file import save_field


@pytest.fixture(scope="session")
def field_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two field files: red and blue blocks, green and blue blocks."""
    folder = tmp_path_factory.mktemp("fields")
    files = [folder / "red.field", folder / "green.field"]
    save_field(blocks(), files[0])
    save_field(blocks(left=GREEN, right=BLUE), files[1])
    return files


@pytest.fixture
def empty_screen() -> Iterator[Screen]:
    """One on which no viewer is open yet."""
    needs_window()
    found = Screen()
    yield found
    found.close()
