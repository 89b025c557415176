"""Edits from the window: applied, taken back, brought back, saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from viewer_fields import BLUE

from fieldmorph.errors import UserError
from fieldmorph.representations.edits import Edit
from fieldmorph.representations.field_file import save_field
from fieldmorph.viewer.editing import Editing, box_region
from fieldmorph.viewer.engine import render_shots
from fieldmorph.viewer.entries import open_entry
from fieldmorph.viewer.model import Model, fitted_box, middle_box
from fieldmorph.viewer.scheduler import Task

LEFT = ((-1.0, -1.0, -1.0), (0.0, 1.0, 1.0))


def left_pixel(model: Model) -> tuple[float, float]:
    """Opacity and blueness where the left block is."""
    (shot,) = render_shots(model.request(64, 48), Task(False, 1.0))
    return float(shot.opacity[27, 22]), float(np.abs(shot.rgb[27, 22] - np.array(BLUE)).max())


def test_delete_undo_redo_and_save(field_files: list[Path], tmp_path: Path) -> None:
    model, editing = Model([open_entry(field_files[0])]), Editing()
    model.navigator.to_view(0)
    entry = model.entry
    before = left_pixel(model)
    assert before[0] > 0.9
    editing.apply(entry, Edit("delete", box_region(LEFT)))
    assert entry.unsaved
    assert left_pixel(model)[0] < 0.05
    assert editing.listed(entry) == ["delete box -1 -1 -1 0 1 1"]
    save_field(entry.field, tmp_path / "edited.field")
    again = Model([open_entry(tmp_path / "edited.field")])
    again.navigator.to_view(0)
    assert left_pixel(again)[0] < 0.05
    editing.undo(entry)
    assert left_pixel(model) == before
    editing.redo(entry)
    assert left_pixel(model)[0] < 0.05
    editing.undo(entry)
    with pytest.raises(UserError, match="no edit to take back"):
        editing.undo(entry)
    editing.apply(entry, Edit("delete", box_region(LEFT)))
    with pytest.raises(UserError, match="no edit to bring back"):
        editing.redo(entry)


def test_regions_to_begin_with(field_files: list[Path]) -> None:
    model = Model([open_entry(field_files[0])])
    outer, inner = fitted_box(model.entry.field), middle_box(model.entry.field)
    assert all(-1.0 <= a < b <= 1.0 for a, b in zip(*outer, strict=True))
    assert all(a < c < d < b for a, c, d, b in zip(outer[0], inner[0], inner[1], outer[1], strict=True))
    revision = model.revision
    model.set_selection(((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)))
    assert model.selection == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert model.revision == revision  # choosing changes no picture
