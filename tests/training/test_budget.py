from __future__ import annotations

import time

import pytest

from fieldmorph.training import TrainOptions
from fieldmorph.training.budget import Budget, RateSchedule


def test_steps_decide_progress_where_given() -> None:
    budget = Budget(steps=10)
    assert budget.progress == 0.0 and not budget.done
    budget.step = 5
    assert budget.progress == 0.5
    budget.step = 10
    assert budget.done
    assert Budget(steps=0).done


def test_paused_time_does_not_count() -> None:
    budget = Budget(seconds=100.0)
    budget.start()
    time.sleep(0.02)
    budget.pause()
    spent = budget.elapsed
    time.sleep(0.02)
    assert budget.elapsed == spent > 0.01
    budget.spent = 100.0
    assert budget.done


def test_rates_warm_up_then_decay_to_their_end() -> None:
    schedule = RateSchedule(warmup=10, decay_from=0.5, final=0.01)
    assert schedule.factor(0, 0.0) == pytest.approx(0.1)
    assert schedule.factor(100, 0.4) == 1.0
    assert schedule.factor(100, 0.75) == pytest.approx(0.1)
    assert schedule.factor(100, 1.0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 1 << 63}, {"checkpoint_steps": 0}, {"checkpoint_seconds": 0.0}, {"view_seconds": float("nan")}, {"samples": 8}],
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="--" + next(iter(wrong)).replace("_", "-")):
        TrainOptions(**wrong)  # type: ignore[arg-type]
