"""Dynamic fields: the moment that is shown, and what of a scene moves; without a window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from viewer_fields import GREEN, RED, Changing, blocks

from fieldmorph.errors import UserError
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.viewer.engine import compose, render_shots
from fieldmorph.viewer.entries import Entry
from fieldmorph.viewer.model import Model
from fieldmorph.viewer.moments import frame_count, moment
from fieldmorph.viewer.path_editor import PathEditor, render_video
from fieldmorph.viewer.scheduler import Task
from fieldmorph.viewer.shots import Mode, available_modes

FULL = Task(False, 1.0)


@pytest.fixture
def model() -> Model:
    found = Model([Entry("changing", Changing(), cameras=Model([Entry("blocks", blocks())]).entry.cameras)])
    found.navigator.fov = 40.0
    return found


def shown(model: Model, mode: Mode = "color") -> np.ndarray:
    model.look = replace(model.look, mode=mode)
    request = model.request(64, 48)
    picture = compose(request, render_shots(request, FULL), model.look, model.comparison, FULL, 0.0)
    return picture.rgba[..., :3]


def has(image: np.ndarray, color: tuple[float, float, float]) -> bool:
    return bool((np.abs(image - np.array(color)).max(-1) < 0.12).mean() > 0.01)


def test_a_moment_is_made_once_and_stays_within_the_clip() -> None:
    field = Changing()
    assert moment(field, 0.25) is moment(field, 0.25)
    moment(field, 7.0)
    moment(field, None)
    assert field.asked == [0.25, 1.0, 0.0]
    still = blocks()
    assert moment(still, 0.5) is still
    assert frame_count(field) == 11
    assert frame_count(still) is None


def test_time_changes_the_picture(model: Model) -> None:
    assert model.time == 0.0
    assert has(shown(model), RED)
    revision = model.revision
    model.set_time(1.5)
    assert model.time == 1.0
    assert model.revision > revision
    assert has(shown(model), GREEN)
    assert not has(shown(model), RED)


def test_a_still_field_has_no_time_until_one_that_moves_is_open(model: Model) -> None:
    still = Model([Entry("blocks", blocks())])
    assert still.time is None
    still.add(Entry("changing", Changing()))
    assert still.time == 0.0
    still.remove(1)
    assert still.time is None


def test_what_moves_and_what_stands_still(model: Model) -> None:
    blue = (0.1, 0.2, 0.9)
    assert has(shown(model, "dynamic"), RED)
    assert not has(shown(model, "dynamic"), blue)
    assert has(shown(model, "static"), blue)
    assert not has(shown(model, "static"), RED)
    cells, occupied = (shown(model, mode) for mode in ("moving", "occupancy"))
    assert 0.2 < (cells < 0.99).mean() / (occupied < 0.99).mean() < 0.8


def test_modes_are_offered_where_the_field_has_them() -> None:
    assert {"static", "dynamic", "moving"} <= set(available_modes(Changing()))
    assert not {"static", "dynamic", "moving", "saliency"} & set(available_modes(blocks()))
    with pytest.raises(UserError, match="what moves"):
        moment(blocks(), 0.0, "dynamic")


def test_a_film_goes_through_time(model: Model, tmp_path: Path) -> None:
    import imageio.v3 as iio

    path = PathEditor()
    path.width, path.height, path.seconds, path.fps = 64, 48, 0.2, 10.0
    for time in (0.0, 1.0):
        path.add(model.navigator.pose, model.navigator.fov, time)
    film = path.film()
    assert [camera.time for camera in film.cameras] == pytest.approx([0.0, 1.0])
    render_video(tmp_path / "film.mp4", film, model.request(64, 48), model.look, model.comparison, 1)
    first, last = iio.imread(tmp_path / "film.mp4", plugin="pyav") / 255.0
    assert has(first, RED)
    assert has(last, GREEN)


def test_mixed_fields_are_shown_by_moment_and_part() -> None:
    """The real family behind what the stand-in stands for."""
    space = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    field = build("mixed", {"frames": 5, "start": 12, "final": 20, "hidden": 24, "color_hidden": 16, "occupancy": 16}, space, seed=0)
    assert {"static", "dynamic", "moving"} <= set(available_modes(field))
    assert frame_count(field) == field.frames
    positions = 2.0 * torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) - 1.0
    still, late = moment(field, 0.0), moment(field, 1.0)
    assert not still.dynamic
    assert not torch.allclose(still.geometry(positions).log_density, late.geometry(positions).log_density)
    field.split[8:] = False
    gates = [moment(field, 0.0, part).geometry(positions).gate > 0 for part in ("static", "dynamic")]
    assert torch.equal(gates[0], ~gates[1])
    assert gates[0].any()
    assert gates[1].any()
