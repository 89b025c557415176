"""What is rendered next: quick while moving, then full, then smooth; with an imagined clock."""

from __future__ import annotations

from fieldmorph.viewer.scheduler import SCALES, SETTLE, Scheduler, Task

PIXELS = 640_000


def work(scheduler: Scheduler, task: Task, full: float, preview: float) -> float:
    """Seconds a task takes, told to the scheduler."""
    pixels = int(PIXELS * task.scale**2)
    seconds = pixels * (preview if task.preview else full)
    scheduler.finished(task, seconds, pixels)
    return seconds


def drain(scheduler: Scheduler, now: float, full: float, preview: float = 0.0) -> list[Task]:
    tasks = []
    while (task := scheduler.next(now, PIXELS)) is not None:
        tasks.append(task)
        now += work(scheduler, task, full, preview)
        assert len(tasks) < 100
    return tasks


def test_nothing_to_do_twice_for_one_change() -> None:
    scheduler = Scheduler()
    scheduler.changed(0.0, moving=True)
    first = scheduler.next(0.0, PIXELS)
    assert first is not None
    assert first.moving
    assert scheduler.next(0.01, PIXELS) is None
    assert scheduler.settles_in(0.02) is not None


def test_resolution_adapts_until_the_frame_rate_holds() -> None:
    for cost in (1e-9, 1e-7, 1e-6, 1e-5):
        scheduler, now, seconds = Scheduler(fps=30.0), 0.0, 1.0
        task = None
        for _ in range(30):
            scheduler.changed(now, moving=True)
            task = scheduler.next(now, PIXELS)
            assert task is not None
            seconds = work(scheduler, task, cost, cost)
            now += seconds
        assert task is not None
        assert seconds <= 1.0 / 30.0 or task.scale == SCALES[-1]
        finer = SCALES[max(0, SCALES.index(task.scale) - 1)]
        assert task.scale == 1.0 or cost * PIXELS * finer**2 > 1.0 / 30.0  # no coarser than it must be


def test_still_view_is_refined_and_then_smoothed() -> None:
    scheduler = Scheduler(samples=4)
    scheduler.changed(0.0, moving=False)
    tasks = drain(scheduler, 0.0, full=1e-6)
    assert tasks[0].scale < 1.0
    assert [(t.scale, t.sample, t.preview) for t in tasks[1:]] == [(1.0, sample, False) for sample in range(4)]
    assert scheduler.progress == 1.0
    assert scheduler.next(99.0, PIXELS) is None


def test_quick_field_needs_no_coarse_picture() -> None:
    scheduler = Scheduler(samples=1)
    scheduler.changed(0.0, moving=False)
    drain(scheduler, 0.0, full=1e-7)
    scheduler.changed(1.0, moving=False)
    assert [t.scale for t in drain(scheduler, 1.0, full=1e-7)] == [1.0]


def test_first_picture_of_a_movement_comes_sooner_than_the_next() -> None:
    scheduler = Scheduler(fps=30.0)
    for _ in range(20):  # what pixels cost is learned
        scheduler.changed(0.0, moving=True)
        task = scheduler.next(0.0, PIXELS)
        assert task is not None
        work(scheduler, task, 1e-6, 1e-6)
    usual = task
    scheduler.changed(9.0, moving=True)
    scheduler.changed(9.01, moving=True)  # still nothing was shown
    first = scheduler.next(9.01, PIXELS)
    scheduler.changed(9.02, moving=True)
    second = scheduler.next(9.02, PIXELS)
    assert usual is not None
    assert first is not None
    assert first.scale < usual.scale
    assert second == usual


def test_large_windows_move_coarsely_enough_to_be_copied_in_time() -> None:
    scheduler = Scheduler(fps=30.0)
    scheduler.shown(0.15, 8_000_000)
    for pixels, copied in ((640_000, 1.0), (8_000_000, 0.3125)):
        scheduler.changed(0.0, moving=True)
        scheduler.next(0.0, pixels)
        scheduler.finished(Task(False, 1.0, moving=True), 1e-3, pixels)  # a quick renderer
        scheduler.changed(0.0, moving=True)
        task = scheduler.next(0.0, pixels)
        assert task is not None
        assert task.scale == copied


def test_moving_ends_when_released_or_settled() -> None:
    scheduler = Scheduler()
    scheduler.changed(0.0, moving=True)
    scheduler.next(0.0, PIXELS)
    later = scheduler.next(SETTLE + 0.01, PIXELS)
    assert later is not None
    assert not later.moving
    scheduler.changed(1.0, moving=True)
    scheduler.next(1.0, PIXELS)
    scheduler.released()
    now = scheduler.next(1.01, PIXELS)
    assert now is not None
    assert not now.moving


def test_preview_moves_but_is_never_the_last_picture() -> None:
    scheduler = Scheduler(samples=2, has_preview=True)
    scheduler.changed(0.0, moving=True)
    moving = scheduler.next(0.0, PIXELS)
    assert moving is not None
    assert moving.preview
    work(scheduler, moving, 1e-5, 1e-8)
    scheduler.released()
    tasks = drain(scheduler, 1.0, full=1e-5, preview=1e-8)
    assert not tasks[-1].preview
    assert tasks[-1].scale == 1.0
