"""Lines over pictures that share the view, and what shares it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmorph.render.camera import look_at
from fieldmorph.viewer.engine import Comparison, compose, render_shots
from fieldmorph.viewer.entries import open_entry
from fieldmorph.viewer.model import Model
from fieldmorph.viewer.overlay import BOX_COLOR, Line, Projector, box_lines, repeated
from fieldmorph.viewer.scheduler import Task
from fieldmorph.viewer.shots import Look

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def test_lines_are_repeated_over_each_part_and_end_at_its_edges() -> None:
    lines = [
        Line((10.0, 5.0), (20.0, 15.0), BOX_COLOR),
        Line((-50.0, 0.0), (150.0, 100.0), BOX_COLOR, 2.0),
        Line((120.0, 0.0), (150.0, 9.0), BOX_COLOR),
        Line((70.0, 0.0), (70.0, 9.0), BOX_COLOR),
        Line((-1.0, 0.0), (-1.0, 9.0), BOX_COLOR),
    ]
    assert repeated(lines, 1, 300.0) == lines
    found = repeated(lines, 3, 100.0)
    assert [line.start for line in found[:3]] == [(10.0, 5.0), (110.0, 5.0), (210.0, 5.0)]
    assert [(line.start, line.end) for line in found[3:6]] == [((k, 25.0), (k + 100.0, 75.0)) for k in (0.0, 100.0, 200.0)]
    assert [line.start[0] for line in found[6:]] == [70.0, 170.0, 270.0]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_box_lies_over_what_each_part_shows_of_it(parts: int) -> None:
    pose = look_at((0.0, -6.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    found = repeated(box_lines(Projector(pose, 40.0, 200, 300), BOX, BOX_COLOR), parts, 200.0)
    middles = np.array([0.5 * (line.start[0] + line.end[0]) for line in found]).reshape(-1, parts).mean(0)
    np.testing.assert_allclose(middles, 100.0 + 200.0 * np.arange(parts), atol=1e-6)


def test_three_fields_share_the_view(field_files: list[Path]) -> None:
    model = Model([open_entry(file) for file in (*field_files, field_files[0])])
    model.compare("side", "all")
    model.navigator.to_view(0)
    request = model.request(192, 64)
    picture = compose(request, render_shots(request, Task(False, 1.0)), Look(), Comparison(), Task(False, 1.0), 0.0)
    assert model.compared == [model.entries[0].name, model.entries[1].name, model.entries[2].name]
    assert picture.rgba.shape == (64, 192, 4)
    np.testing.assert_array_equal(picture.rgba[:, :64], picture.rgba[:, 128:])
    assert (picture.rgba[:, :64] != picture.rgba[:, 64:128]).any()
    model.compare("wipe")  # of two
    assert model.partner == "field"
    assert len(model.request(192, 64).sources) == 2
    model.compare("side", "all")
    model.remove(2)
    model.remove(1)
    assert model.layout == "single"
    assert model.compared == [model.entry.name]
