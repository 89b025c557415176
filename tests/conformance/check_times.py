"""What a field that moves must answer besides; nothing is asked of the others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from conformance_settings import directions, lively, number, points

from fieldmorph.kernels import reference
from fieldmorph.representations.field import truncated_exp
from fieldmorph.representations.field_file import load_field, save_field


def check_many_times_together(name: str) -> None:
    """s [N, T] and rgb [N, T, 3] at once are what single moments say, between frames as well."""
    field, x, d = lively(name), points(40), directions(40)
    if not field.dynamic:
        return
    times = torch.tensor([0.0, 0.3, 0.5, 1.0])
    geometry = field.geometry(x, times)
    rgb = field.color(geometry.features, d, times)
    assert geometry.log_density.shape == (40, 4)
    assert geometry.gate.shape == (40,)
    assert rgb.shape == (40, 4, 3)
    for k, time in enumerate(times.tolist()):
        moment = field.at(time)
        assert not moment.dynamic
        alone = moment.geometry(x)
        assert torch.allclose(alone.log_density, geometry.log_density[:, k], atol=1e-5)
        assert torch.allclose(moment.color(alone.features, d), rgb[:, k], atol=1e-5)
    first = field.geometry(x)
    assert torch.allclose(first.log_density, geometry.log_density[:, 0], atol=1e-5), "without times: as of time 0"


def check_times_matter(name: str) -> None:
    field, x = lively(name), points(64)
    if not field.dynamic:
        return
    assert field.frames > 1
    s = field.geometry(x, torch.tensor([0.0, 1.0])).log_density
    assert number((s[:, 0] - s[:, 1]).abs().max()) > 1e-3


def check_a_moment_can_be_lowered(name: str) -> None:
    field, x, d = lively(name), points(300), directions(300)
    if not field.dynamic:
        return
    with torch.no_grad():
        moment = field.at(0.4)
        lowered = moment.lower()
        assert lowered is not None
        geometry = moment.geometry(x)
        expected = geometry.gate * truncated_exp(geometry.log_density)
        assert torch.allclose(reference.evaluate_density(lowered, x), expected, rtol=1e-4, atol=1e-6)
        rgb = reference.evaluate(lowered, x, d).rgb
        assert torch.allclose(rgb, moment.color(geometry.features, d), atol=1e-4)


def check_the_peak_holds_for_all_times(name: str) -> None:
    field, x = lively(name), points(64)
    with torch.no_grad():
        peak = field.peak_density(x)
        for time in torch.linspace(0.0, 1.0, field.frames).tolist():
            assert bool((peak >= field.at(time).density(x) * (1 - 1e-4)).all())


def check_frames_survive_the_file(name: str) -> None:
    field, x = lively(name), points(20)
    if not field.dynamic:
        return
    with tempfile.TemporaryDirectory() as folder:
        save_field(field, Path(folder) / "a.field")
        again = load_field(Path(folder) / "a.field")
    assert again.frames == field.frames
    assert torch.equal(again.at(0.7).density(x), field.at(0.7).density(x))
