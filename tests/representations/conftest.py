"""What the tests of representations share."""

from __future__ import annotations

from pathlib import Path

import pytest
from field_file_tools import tiny

from fieldmorph.representations.field_file import save_field


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.field"
    save_field(tiny(), path)
    return path
