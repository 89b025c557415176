"""What the viewer's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from session import Screen, Session, needs_window
from viewer_fields import BLUE, GREEN, blocks

from fieldmorph.representations.field_file import save_field
from fieldmorph.viewer.engine import Comparison


@pytest.fixture(scope="session")
def field_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two field files: red and blue blocks, green and blue blocks."""
    folder = tmp_path_factory.mktemp("fields")
    files = [folder / "red.field", folder / "green.field"]
    save_field(blocks(), files[0])
    save_field(blocks(left=GREEN, right=BLUE), files[1])
    return files


def opened_screen() -> Iterator[Screen]:
    needs_window()
    found = Screen()
    yield found
    found.close()


@pytest.fixture
def empty_screen() -> Iterator[Screen]:
    """One on which no viewer is open yet."""
    yield from opened_screen()


@pytest.fixture(scope="module")
def screen() -> Iterator[Screen]:
    yield from opened_screen()


@pytest.fixture(scope="module")
def viewer(screen: Screen, field_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = Session(screen, tmp_path_factory.mktemp("viewer"), field_files)
    yield session
    assert session.close() == 0


@pytest.fixture
def window(viewer: Session) -> Session:
    """The window as it starts, at the first training camera."""
    viewer.do("mousemove", 1, 1)
    viewer.ask("[window.dialogs.close(), window.model.compare('single'), window.model.set_crop(None), window.model.activate(0)]")
    viewer.ask(f"setattr(window.model, 'comparison', type(window.model.comparison)({Comparison().wipe}))")
    viewer.ask("[setattr(window.controls, 'first_person', False), window.set_mode('color'), window.model.navigator.to_view(0)]")
    viewer.ask("window.model.touch()")
    viewer.settle()
    return viewer
