"""Steps over fixed buffers, as CUDA graphs record them, do what plain steps do. On a GPU they are recorded, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_trainers import small_trainer

import fieldmorph.kernels
from fieldmorph.datasets.scene import Scene
from fieldmorph.kernels import cuda
from fieldmorph.training.graphs import GraphedSteps, rounded, why_not

pytest.importorskip("triton")

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


@pytest.fixture
def triton_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Triton kernels serve every device, in float32."""
    cuda.load()
    cuda.set_precision("single")
    monkeypatch.setattr(fieldmorph.kernels, "ops", lambda device="cpu": cuda)
    yield
    cuda.set_precision("half")


def test_steps_over_fixed_buffers_are_plain_steps(ball_scene: Scene, triton_everywhere: None) -> None:
    results = []
    for graphed in (False, True):
        trainer = small_trainer(ball_scene, DEVICE)
        trainer.graphs = GraphedSteps(trainer, record=GPU) if graphed else None
        if trainer.graphs is not None:
            assert why_not(trainer) is None
            trainer.graphs.wanted, trainer.graphs.times = 64, 10  # patience has run out
        losses = []
        for _ in range(2):
            trainer.rays = 64
            losses.append(trainer.step().loss)
        assert trainer.graphs is None or list(trainer.graphs.steps) == [64]
        assert set(trainer.optimizer.step_count.values()) == {2}
        results.append((losses, [p.detach().cpu() for p in trainer.field.parameters()]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a - b).abs().max() < 2e-4  # Adam's first steps have the rate's length (2e-2) whatever the gradient's size


def test_rays_of_a_recorded_step() -> None:
    assert [rounded(n) for n in (1, 64, 100, 1024, 1500, 5000)] == [64, 64, 64, 1024, 1408, 4864]
    assert all(rounded(n) <= max(n, 64) and rounded(n) > 0.75 * n - 64 for n in range(1, 70000, 997))


def test_what_is_not_recorded(ball_scene: Scene) -> None:
    trainer = small_trainer(ball_scene, DEVICE)
    if not GPU:
        assert trainer.graphs is None
        assert "sizes" in (why_not(trainer) or "")
    assert GraphedSteps(trainer).step(0.0) is None or GPU
