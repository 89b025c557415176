"""Looking at a run: copies between steps, curves, pause and stop."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from viewer_fields import blocks

from fieldmorph.training import StepStats
from fieldmorph.training.budget import Budget
from fieldmorph.viewer.live import POINTS, Live, Watched, still_copy


def stats(step: int) -> StepStats:
    return StepStats(step, step / 1000.0, 1.0 / step, 0.5 / step, 100, 1000, 1e-2)


def trainer(steps: int = 100000) -> Any:
    return SimpleNamespace(field=blocks(), budget=Budget(steps=steps), stop=False)


def test_copies_come_when_asked_for_and_never_change() -> None:
    live, run = Live(), trainer()
    live(run, stats(1))
    first = live.take()
    assert first is not None
    before = first.density_data.clone()
    with torch.no_grad():
        run.field.density_data += 1.0
    assert torch.equal(first.density_data, before)
    live(run, stats(2))
    assert live.take() is None  # nobody asked
    live.want()
    live._next_copy = 0.0
    live(run, stats(3))
    second = live.take()
    assert second is not None
    assert torch.equal(second.density_data, before + 1.0)


def test_a_copy_is_no_training_field() -> None:
    field = blocks().requires_grad_(True)
    field.density_data.grad = torch.ones_like(field.density_data)
    fresh = still_copy(field)
    assert all(p.grad is None and not p.requires_grad for p in fresh.parameters())
    assert field.density_data.grad is not None
    assert fresh.metadata is field.metadata


def test_curves_stay_short() -> None:
    live, run = Live(), trainer()
    for step in range(1, 5 * POINTS):
        live(run, stats(step))
    assert POINTS / 4 < len(live.steps) <= POINTS
    assert len(live.steps) == len(live.losses) == len(live.psnrs)
    assert live.steps == sorted(live.steps)
    assert live.losses[-1] < live.losses[0]
    assert live.psnrs[-1] > live.psnrs[0]


def test_pause_holds_the_run_and_stop_ends_it() -> None:
    live, run, done = Live(), trainer(), []

    def work() -> str:
        for step in range(1, 1_000_000):
            live(run, stats(step))
            done.append(step)
            if run.stop:
                return "saved"
        return "ran out"

    live.paused = True
    watched = Watched(work)
    assert live.first(lambda: watched.ended) is not None
    time.sleep(0.1)
    assert len(done) == 0
    live.paused = False
    begin = time.monotonic()
    while not done and time.monotonic() - begin < 60:
        time.sleep(0.001)
    live.stop()
    assert watched.wait() == "saved"
    assert live.stopping


def test_the_run_s_error_reaches_whoever_waits() -> None:
    def work() -> None:
        raise ValueError("diverged")

    watched = Watched(work)
    with pytest.raises(ValueError, match="diverged"):
        watched.wait()
    assert Live().first(lambda: True) is None
    assert threading.active_count() < 50
