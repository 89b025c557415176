"""Moving fields on the command line: scores where things move, moments and parts, a teacher frozen at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fieldmorph.datasets.procedural.video import make_video_scene
from fieldmorph.datasets.scene import load_scene
from fieldmorph.render.renderer import which_renderer
from fieldmorph.representations.field_file import load_field, save_field
from fieldmorph.representations.mixed import MixedField
from fieldmorph.representations.registry import build
from fieldmorph.scripts import cli

SMALL = {"start": 8, "final": 8, "density_rank": 4, "color_rank": 4, "hidden": 16, "color_hidden": 16, "occupancy": 16}
FRAMES = 3

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str]:
        code = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out + err

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video") / "clip"
    return make_video_scene(folder, cameras=3, frames=FRAMES, width=24, height=18, samples=1)


@pytest.fixture(scope="module")
def field(clip: Path) -> Path:
    """A mixed field of opaque cells: what is seen depends on the time and on the part."""
    scene = load_scene(clip)
    made = build("mixed", {**SMALL, "frames": FRAMES}, scene.space, 0)
    assert isinstance(made, MixedField)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(6.0)
        made.split.copy_(torch.rand(made.split.shape, generator=generator) < 0.5)
        made.occupancy.bits.copy_(torch.rand(made.split.shape, generator=generator) < 0.2)
    made.metadata["cameras"] = [scene.cameras[i].to_dict() for i in scene.split["train"]]
    path = clip.parent / "made.field"
    save_field(made, path)
    return path


def pictures(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)).astype(int) for file in sorted(folder.glob("*.png"))]


def test_scores_tell_what_moves_from_the_rest(call: Run, clip: Path, field: Path, tmp_path: Path) -> None:
    code, said = call("eval", field, "--data", clip, "--json", tmp_path / "scores.json")
    assert code == 0
    assert "where something moves" in said
    found = json.loads((tmp_path / "scores.json").read_text())
    assert len(found["images"]) == FRAMES
    mean = found["mean"]
    share = mean["moving_share"]
    assert 0.0 < share < 0.5
    errors = [10 ** (-mean[key] / 10) for key in ("psnr_moving", "psnr_still")]
    together = sum(10 ** (-image["psnr"] / 10) for image in found["images"]) / FRAMES
    assert share * errors[0] + (1 - share) * errors[1] == pytest.approx(together, rel=1e-6)


def test_time_passes_along_a_path_or_stands_still(call: Run, field: Path, tmp_path: Path) -> None:
    common = ("render", field, "--size", "16x12", "--frames", "3")
    for name, flags in (("free", ()), ("bullet", ("--time", "0.5")), ("back", ("--time", "1:0"))):
        assert call(*common, "--out", tmp_path / name, *flags)[0] == 0
    free, bullet, back = (pictures(tmp_path / name) for name in ("free", "bullet", "back"))
    assert np.array_equal(free[1], bullet[1]) and np.array_equal(free[1], back[1])
    assert (free[0] != bullet[0]).any() and (free[2] != bullet[2]).any() and (free[0] != back[0]).any()


def test_a_fixed_camera_shows_its_own_times(call: Run, clip: Path, field: Path, tmp_path: Path) -> None:
    assert call("render", field, "--out", tmp_path / "fixed", "--path", "test", "--data", clip)[0] == 0
    seen = pictures(tmp_path / "fixed")
    assert len(seen) == FRAMES
    assert all((a != b).any() for a, b in itertools.pairwise(seen))


def test_parts_add_up_to_the_scene(call: Run, field: Path, tmp_path: Path) -> None:
    """Where one part is transparent, the other shows what the whole does."""
    for part in ("all", "static", "dynamic"):
        flags = ("--part", part, "--frames", "1", "--size", "16x12", "--layer", "rgb", "--layer", "opacity")
        assert call("render", field, "--out", tmp_path / part, *flags)[0] == 0
    whole, still, moving = (pictures(tmp_path / part / "rgb")[0] for part in ("all", "static", "dynamic"))
    assert (whole != still).any() and (whole != moving).any()
    for seen, other in ((still, "dynamic"), (moving, "static")):
        transparent = pictures(tmp_path / other / "opacity")[0].reshape(12, 16, -1)[..., 0] == 0
        assert transparent.any()
        assert (np.abs(whole - seen)[transparent] <= 2).all()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--time", "2"), "from 0 to 1"),
        (("--time", "0:0.5:1"), "FROM:TO"),
        (("--time", "now"), "FROM:TO"),
    ],
)
def test_times_that_cannot_be(call: Run, field: Path, tmp_path: Path, flags: tuple[str, ...], sentence: str) -> None:
    code, said = call("render", field, "--out", tmp_path / "out", *flags)
    assert (code, sentence in said, "Traceback" in said) == (2, True, False)


def test_a_moment_is_distilled_into_a_family_that_stands_still(call: Run, field: Path, tmp_path: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in {"start": 8, "final": 8, "occupancy": 16, "hidden": 16}.items()]
    flags = ("distill", field, "--to", "vm", "--steps", "2", "--view-seconds", "0", *settings)
    code, said = call(*flags, "--out", tmp_path / "none")
    assert (code, "--time" in said) == (2, True)
    code, said = call("distill", field, "--to", "mixed", "--time", "0.5", "--steps", "1", "--out", tmp_path / "mixed")
    assert (code, "stands still" in said) == (2, True)
    assert call(*flags, "--time", "0.5", "--out", tmp_path / "frozen")[0] == 0
    frozen = load_field(tmp_path / "frozen" / "field.field")
    assert frozen.family == "vm" and not frozen.dynamic
    code, said = call(*flags[:1], tmp_path / "frozen", *flags[2:], "--time", "0.5", "--out", tmp_path / "again")
    assert (code, "stands still" in said) == (2, True)


def test_moments_say_that_pictures_of_them_are_fused(field: Path) -> None:
    moment = load_field(field).at(0.5)
    assert torch.is_grad_enabled()
    assert which_renderer(moment) == "fused"
