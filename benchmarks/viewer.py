"""The viewer's window against the clock: how soon input shows, how fluently and how sharply a view moves, and a soak.

A real window is driven frame by frame through its own controls.  Where there is no display, a virtual one is started
(Xvfb, which draws in software on the same cores: figures are then a lower bound of what a desktop shows).
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..viewer.controls import LEFT, MIDDLE
from ..viewer.engine import Picture, compose, render_shots
from ..viewer.entries import open_entry
from ..viewer.model import Model, fitted_box
from ..viewer.preferences import Preferences
from ..viewer.scheduler import Task
from ..viewer.shots import MODES, picture_psnr
from ..viewer.window import Window

PATIENCE = 300.0
"""Seconds any one thing may take."""
TURN = 0.0035
"""Of the view's height that the pointer moves in a frame of 1/60 s: about a quarter turn in two seconds."""
COMPARED = 8
"""Moving pictures that are compared with the full field."""
WARM = 0.2
"""Share of a soak after which memory should not grow any more."""

Told = Callable[[str, float], None]
"""Hears the name of a part and its finished share."""


@contextmanager
def display() -> Iterator[str]:
    """A display to open a window on; says which.

    Raises:
        UserError: there is none, and no Xvfb to make one.
    """
    if os.environ.get("DISPLAY") or os.name == "nt":
        yield os.environ.get("DISPLAY", "desktop")
        return
    if shutil.which("Xvfb") is None:
        raise UserError("the viewer is measured in a window: set DISPLAY, or install Xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1200x24", "+extension", "GLX", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(write,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise UserError("Xvfb does not start here; set DISPLAY to a screen of yours")
        os.environ["DISPLAY"] = f":{number}"
        yield "Xvfb, drawn in software"
    finally:
        os.environ.pop("DISPLAY", None)
        server.terminate()
        server.wait(30)


class Driver:
    """A window with a view of an exact size, and hands on its controls."""

    def __init__(self, field: Path, size: int) -> None:
        self.model = Model([open_entry(field)])
        self.window = Window(self.model, Preferences(width=size + 380, height=size + 68, samples=16))
        self._act: Callable[[], None] | None = None
        self.window.input.script = lambda seconds: self._acted()
        self.frame()
        from ..viewer import gui

        for _ in range(60):
            width, height = self.window.view_size
            if (width, height) == (size, size):
                break
            gui.set_viewport_width(gui.get_viewport_width() + size - width)
            gui.set_viewport_height(gui.get_viewport_height() + size - height)
            for _ in range(3):
                self.frame()

    def _acted(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()

    def frame(self, act: Callable[[], None] | None = None) -> None:
        """Draw once; ``act`` where the window would look at mouse and keyboard."""
        self._act = act
        self.window.frame()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        begin = time.perf_counter()
        while not condition():
            if time.perf_counter() - begin > PATIENCE:
                raise UserError(f"waited {PATIENCE:.0f} s in vain for {what}")
            self.frame()

    def rest(self) -> None:
        """Until the full picture is on the screen; its anti-aliasing goes on."""
        self.frame()
        self.until(self.is_full, "a full picture")

    def is_full(self) -> bool:
        """Whether the newest request is shown by the field itself, at full resolution."""
        picture, window = self.window.displayed, self.window
        if picture is None or window.model.revision != window.asked or picture.request is not window.engine.request:
            return False
        return picture.task.scale == 1.0 and not picture.task.preview and not picture.task.moving

    def settle(self) -> None:
        """Until the still picture is complete."""
        self.frame()
        self.until(lambda: self.window.engine.idle and self.shown is not None, "a complete picture")
        self.frame()

    @property
    def shown(self) -> Picture | None:
        return self.window.engine.shown

    def number(self) -> int:
        """Of the picture on the screen."""
        return 0 if self.window.displayed is None else self.window.displayed.number

    def newer(self, number: int) -> bool:
        """Whether the picture on the screen comes after one of that number."""
        return self.number() > number

    def press(self) -> None:
        self.window.controls.press(LEFT, 0.5, 0.5)
        self._at = 0.5

    def turn(self, by: float = TURN) -> None:
        """One step of a drag, to and fro across the view."""
        self._at = 0.2 + (self._at + by - 0.2) % 0.6
        self.window.controls.drag(self._at, 0.5, 1.0)

    def release(self) -> None:
        self.window.controls.release()
        self.window.controls.moving = False


def measure_viewer(
    field: Path, size: int = 800, seconds: float = 10.0, soak: float = 0.0, told: Told = lambda name, share: None
) -> dict[str, Any]:
    """Latency, frame rate, sharpness and refinement of a window ``size`` pixels square on a field; memory over ``soak`` seconds. JSON-able.

    Raises:
        UserError: no window can be opened.
    """
    with display() as screen:
        from ..viewer.gui import require_window

        require_window()
        driver = Driver(field, size)
        try:
            found: dict[str, Any] = {"field": field.name, "size": size, "display": screen, **_preview(driver, told)}
            found["still"] = _refinement(driver, told)
            found["latency"] = _latency(driver, told)
            found["moving"] = _moving(driver, seconds, told)
            if soak > 0.0:
                found["soak"] = _soak(driver, field, soak, told)
        finally:
            driver.window.close()
    return found


def _preview(driver: Driver, told: Told) -> dict[str, Any]:
    told("preview", 0.0)
    begin, entry = time.perf_counter(), driver.model.entry
    driver.until(lambda: not driver.window.jobs, "the preview")
    return {"family": entry.field.family, "preview_seconds": time.perf_counter() - begin, "preview_psnr": entry.preview_psnr}


def _latency(driver: Driver, told: Told, repeats: int = 12) -> dict[str, float]:
    """Milliseconds from input at a random moment to the frame that shows its first picture; from a full picture that is being smoothed."""
    chance, found = random.Random(0), []
    for index in range(repeats):
        told("latency", index / repeats)
        driver.rest()
        driver.frame(driver.press)
        before, at = driver.number(), time.perf_counter() + chance.uniform(0.0, 0.1)
        while time.perf_counter() < at:
            driver.frame()
        # The input came in during the last frame: the next one sees it.
        driver.frame(lambda: driver.turn(0.02))
        driver.until(partial(driver.newer, before), "the first picture")
        found.append(1000.0 * (driver.window.drawn_at - at))
        driver.frame(driver.release)
    return _spread(found)


def _moving(driver: Driver, seconds: float, told: Told) -> dict[str, Any]:
    """Pictures a second while the view turns, their size, and their PSNR to the full field where they are shown."""
    driver.rest()
    driver.frame(driver.press)
    kept: list[Picture] = []
    shown, last, begin = 0, driver.number(), time.perf_counter()
    frames, draws, gaps, before = 0, 0.0, [], begin
    while (now := time.perf_counter()) - begin < seconds:
        told("moving", (now - begin) / seconds)
        driver.frame(driver.turn)
        frames, draws = frames + 1, draws + driver.window.draw_seconds
        picture = driver.window.displayed
        if picture is not None and picture.number != last:
            last, shown = picture.number, shown + 1
            gaps.append(driver.window.drawn_at - before)
            before = driver.window.drawn_at
            kept.append(picture)
    spent = time.perf_counter() - begin
    driver.frame(driver.release)
    chosen = kept[len(kept) // 4 :: max(1, len(kept) // COMPARED)][:COMPARED]
    quality = [_sharpness(picture) for picture in chosen]
    return {
        "pictures_per_second": shown / spent,
        "frames_per_second": frames / spent,
        "slowest_hundredth_ms": 1000.0 * float(np.quantile(gaps, 0.99)) if gaps else None,
        "draw_ms": 1000.0 * draws / max(1, frames),
        "render_ms": 1000.0 * statistics.fmean(picture.seconds for picture in kept) if kept else None,
        "scale": statistics.fmean(picture.task.scale for picture in kept) if kept else None,
        "preview_share": statistics.fmean(picture.task.preview for picture in kept) if kept else None,
        "psnr": statistics.fmean(quality) if quality else None,
    }


def _sharpness(picture: Picture) -> float:
    """PSNR between a moving picture as the screen shows it, stretched bilinearly, and the full field there."""
    from PIL import Image

    request = picture.request
    full = compose(request, render_shots(request, Task(False, 1.0)), *_plain())
    height, width = full.rgba.shape[:2]
    channels = [Image.fromarray(np.ascontiguousarray(picture.rgba[..., c])) for c in range(3)]
    stretched: NDArray[np.float32] = np.stack([np.asarray(c.resize((width, height), Image.Resampling.BILINEAR)) for c in channels], -1)
    return picture_psnr(stretched, full.rgba[..., :3])


def _plain() -> tuple[Any, ...]:
    from ..viewer.engine import Comparison
    from ..viewer.shots import Look

    return Look(), Comparison(), Task(False, 1.0), 0.0


def _refinement(driver: Driver, told: Told, repeats: int = 6) -> dict[str, Any]:
    """Seconds from letting go to the first full picture, and to all anti-aliasing samples."""
    full, whole = [], []
    for index in range(repeats):
        told("refinement", index / repeats)
        driver.rest()
        driver.frame(driver.press)
        for _ in range(10):
            driver.frame(driver.turn)
        driver.frame(driver.release)
        begin = time.perf_counter()
        driver.until(driver.is_full, "a full picture")
        full.append(driver.window.drawn_at - begin)
        if index == 0:
            driver.settle()
            whole.append(time.perf_counter() - begin)
    return {"full_seconds": _spread(full), "all_samples_seconds": whole[0], "samples": driver.window.engine.scheduler.samples}


def _soak(driver: Driver, field: Path, seconds: float, told: Told, seed: int = 0) -> dict[str, Any]:
    """Random input for so long: actions, failures shown, and memory before and after. Nothing is measured after it."""
    chance, window, model = random.Random(seed), driver.window, driver.model
    home = model.navigator
    window.files.add(open_entry(field))
    model.activate(0)

    def drag() -> None:
        window.controls.press(chance.choice((LEFT, MIDDLE)), 0.5, 0.5, chance.random() < 0.3)

    actions: tuple[Callable[[], Any], ...] = (
        drag,
        drag,
        lambda: window.controls.wheel(chance.choice((-1.0, 1.0))),
        lambda: window.controls.hold([chance.choice("WASDEQ")], 0.05),
        lambda: window.controls.set_focus(chance.random(), chance.random()),
        lambda: window.set_mode(chance.choice(MODES[:6])),
        lambda: model.set_crop(chance.choice((None, fitted_box(model.entry.field)))),
        lambda: model.compare(chance.choice(("single", "single", "side", "wipe", "difference")), "field"),
        lambda: setattr(model, "comparison", replace(model.comparison, wipe=chance.random())),
        lambda: setattr(model, "look", replace(model.look, exposure=chance.uniform(-1.0, 1.0))),
        lambda: setattr(model, "look", replace(model.look, background=chance.choice(("white", "black", "checker")))),
        lambda: window.controls.key(chance.choice("[]F")),
        window.toggle_panels,
        home.reset,
    )
    begin, taken, failures, memory = time.perf_counter(), 0, set(), []
    while (now := time.perf_counter()) - begin < seconds:
        told("soak", (now - begin) / seconds)
        driver.frame(chance.choice(actions))
        taken += 1
        for _ in range(chance.randrange(12)):
            driver.frame(lambda: window.controls.drag(chance.random(), chance.random(), 1.0) if window.controls.dragging else None)
        driver.frame(driver.release)
        if model.navigator.distance > 20.0 * home.home.radius:
            home.reset()
        if window.failure:
            failures.add(window.failure)
        memory.append((now - begin, resident_bytes()))
    warm = [size for at, size in memory if WARM * seconds <= at < 2.0 * WARM * seconds]
    last = [size for at, size in memory if at >= (1.0 - WARM) * seconds]
    start, end = statistics.median(warm or [0]), statistics.median(last or [0])
    return {
        "seconds": time.perf_counter() - begin,
        "actions": taken,
        "failures": sorted(failures),
        "warm_bytes": start,
        "end_bytes": end,
        "growth": end / start - 1.0 if start else None,
    }


def resident_bytes() -> int:
    """Memory this process holds now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "worst": max(values), "count": float(len(values))}
