"""The product on a GPU that does not exist (``imaginary.py``): where tensors are, what is waited for, what graphs record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from imaginary import GpuTensor, Graph, Waited, imaginary_gpu
from small_trainers import TINY, small_trainer

from fieldmorph import kernels
from fieldmorph.datasets.scene import Scene
from fieldmorph.errors import UserError
from fieldmorph.kernels import cuda, dispatch, reference
from fieldmorph.representations.field import Field
from fieldmorph.representations.mlp import MLPField
from fieldmorph.representations.voxels import VoxelField
from fieldmorph.scripts import cli
from fieldmorph.training import recipes, trainer
from fieldmorph.training.graphs import why_not

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") != "1", reason="there is a real GPU, or Triton is not interpreted"
)


@pytest.fixture
def gpu() -> Iterator[type[Waited]]:
    with imaginary_gpu() as waited:
        yield waited


@pytest.fixture
def single() -> Iterator[None]:
    cuda.set_precision("single")
    yield
    cuda.set_precision("half")


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rays and few steps along them: interpreted kernels are slow."""
    monkeypatch.setattr(trainer, "FIRST_RAYS", 64)
    for name, recipe in recipes.RECIPES.items():
        monkeypatch.setitem(recipes.RECIPES, name, replace(recipe, steps_per_diagonal=12))
    for family in (Field, MLPField, VoxelField):
        monkeypatch.setattr(family, "render_steps", 12)


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imaginary") / "scene"
    assert cli.main(["data", "make", str(out), "--size", "16", "--train", "6", "--val", "1", "--test", "1", "-q"]) == 0
    return out


def recording_trainer(scene: Scene) -> trainer.Trainer:
    """One that records its first step."""
    made = small_trainer(scene, torch.device("cuda", 0))
    assert made.graphs is not None and why_not(made) is None
    made.graphs.wanted, made.graphs.times = 64, 10  # patience has run out
    return made


def steps_of(made: trainer.Trainer, count: int) -> tuple[list[float], list[int], list[torch.Tensor]]:
    """Losses, how often each step waited for the GPU, and the parameters afterwards."""
    losses, waits = [], []
    for _ in range(count):
        made.rays, before = 64, Waited.times
        losses.append(made.step().loss)
        waits.append(Waited.times - before)
    return losses, waits, [p.detach().cpu() for p in made.field.parameters()]


def test_what_a_gpu_refuses_is_refused(gpu: type[Waited]) -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert isinstance(there, GpuTensor) and there.device.type == "cuda"
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    from fieldmorph.kernels.cuda.probe import doubled, probe

    probe()
    with pytest.raises(ValueError, match="cpu tensor"):
        doubled[(1,)](here, here, B=2)
    graph = Graph()
    with pytest.raises(RuntimeError, match="capturing"), graph.record():
        there.sum().item()
    with graph.record():
        there += 1.0
        twice = there * 2.0
    assert there.tolist() == [1.0, 1.0, 1.0], "recording does nothing"
    graph.replay()
    graph.replay()
    assert there.tolist() == [3.0, 3.0, 3.0] and twice.tolist() == [6.0, 6.0, 6.0]


def test_recorded_steps_are_plain_steps_and_seldom_wait(ball_scene: Scene, gpu: type[Waited]) -> None:
    plain = recording_trainer(ball_scene)
    plain.graphs = None
    recorded = recording_trainer(ball_scene)
    losses, waits, parameters = steps_of(plain, 3)
    same_losses, few, same = steps_of(recorded, 3)
    assert recorded.graphs is not None and recorded.graphs.steps[64].graph is not None
    assert losses == pytest.approx(same_losses, rel=1e-3)
    assert all((a - b).abs().max() < 5e-4 for a, b in zip(parameters, same, strict=True))
    assert set(few) == {1} and min(waits) > 1, "loss and counts are asked for at once"


def test_steps_that_cannot_be_recorded_go_on_in_pieces(
    ball_scene: Scene, gpu: type[Waited], single: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "graph", refused)
    made = recording_trainer(ball_scene)
    start = [p.detach().cpu() for p in made.field.parameters()]
    _, _, parameters = steps_of(made, 2)
    assert made.graphs is not None and not made.graphs.steps
    made.graphs.forget()  # as milestones do
    assert made.graphs.step(0.5) is None, "and it is not tried again"
    assert capsys.readouterr().err.count("cannot be recorded as CUDA graphs (CUDA error: not permitted)") == 1
    assert set(made.optimizer.step_count.values()) == {2}
    moved = max(float((a - b).abs().max()) for a, b in zip(start, parameters, strict=True))
    assert 0.0 < moved < 0.05, "two steps of Adam, at a rate of 0.02, and no more"


@contextmanager
def refused(graph: Graph, **_: object) -> Iterator[None]:
    with graph.record():
        yield
    raise RuntimeError("CUDA error: not permitted\nsecond line")


def test_train_score_and_render_with_triton(scene_folder: Path, tmp_path: Path, gpu: type[Waited], coarse: None) -> None:
    run, settings = tmp_path / "run", [word for pair in TINY for word in ("--set", pair)]
    there = ("--device", "cuda", "-q")
    assert cli.main(["train", str(scene_folder), "--out", str(run), "--steps", "3", "--samples", "256", *settings, *there]) == 0
    assert cli.main(["eval", str(run), "--data", str(scene_folder), *there]) == 0
    assert cli.main(["render", str(run), "--frames", "2", "--size", "8x8", "--out", str(tmp_path / "film"), *there]) == 0
    assert len(list((tmp_path / "film").glob("*.png"))) == 2


@pytest.mark.parametrize("family", ["vm", pytest.param("voxels", marks=pytest.mark.slow)])
def test_convert_and_prune_on_a_gpu(family: str, scene_folder: Path, tmp_path: Path, gpu: type[Waited], coarse: None) -> None:
    there = ("--device", "auto", "--kernels", "reference", "--samples", "256", "-q")
    settings = [word for pair in TINY for word in ("--set", pair)]
    run = str(tmp_path / "run")
    hollow = ("--compress", "hollow", "--steps", "8", "--view-seconds", "0")
    assert cli.main(["train", str(scene_folder), "--out", run, *hollow, *settings, *there]) == 0
    small = ("--set", "occupancy=8", "--set", "start=8", "--set", "final=8")
    out = str(tmp_path / family)
    assert cli.main(["distill", run, "--to", family, "--out", out, "--steps", "6", "--view-seconds", "0", *small, *there]) == 0


@pytest.mark.slow
def test_a_clip_on_a_gpu(tmp_path: Path, gpu: type[Waited], coarse: None) -> None:
    clip = str(tmp_path / "clip")
    assert cli.main(["data", "make", clip, "--dynamic", "--size", "24", "--cameras", "3", "--frames", "3", "-q"]) == 0
    there = ("--device", "cuda", "--kernels", "reference", "-q")
    made = ("--field", "mixed", "--steps", "4", "--samples", "256", "--set", "occupancy=8", "--view-seconds", "0")
    assert cli.main(["train", clip, "--out", str(tmp_path / "run"), *made, *there]) == 0
    assert cli.main(["render", str(tmp_path / "run"), "--frames", "2", "--size", "8x8", "--out", str(tmp_path / "film"), *there]) == 0


def test_a_second_gpu_is_made_the_current_one(gpu: type[Waited], monkeypatch: pytest.MonkeyPatch) -> None:
    current = [0]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.__setitem__(0, torch.device(device).index))
    assert kernels.ops("cuda:1") is cuda and current == [1]
    assert kernels.ops("cuda") is cuda and current == [1], "whichever is current"
    assert kernels.ops("cuda:0") is cuda and current == [0]


def test_where_triton_does_not_work_it_is_said_once(gpu: type[Waited], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(dispatch, "_broken_cuda", None)
    monkeypatch.setattr(cuda, "load", broken)
    kernels.set_kernels("cuda")
    with pytest.raises(UserError, match=r"Failed to find C compiler\. Please specify via CC.*--kernels reference"):
        kernels.ops("cuda")
    monkeypatch.setattr(dispatch, "_broken_cuda", None)
    kernels.set_kernels("auto")
    with pytest.warns(RuntimeWarning, match="Failed to find C compiler"):
        kernels.ops("cuda")
    assert kernels.ops("cuda") is reference, "and is not said again"
    lines = kernels.explain("cuda")
    assert lines[0] == "kernels: reference (PyTorch) on cuda" and any("C compiler" in line for line in lines)
