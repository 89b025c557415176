"""A real window on a virtual screen: xdotool's mouse and keyboard in, pixels of the screen out."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PATIENCE = 120.0
"""Seconds any one thing may take on a busy machine; each normally takes a fraction of one."""
STATUS = 40
"""Height of what lies below the panels, pixels: a control there may be visible by its upper edge alone."""


RED, GREEN, BLUE, WHITE = (230, 26, 26), (26, 204, 26), (26, 51, 230), (255, 255, 255)


def share(image: np.ndarray, color: tuple[int, int, int], left: float = 0.0, right: float = 1.0) -> float:
    """How much of a part of the view has about this colour."""
    width = image.shape[1]
    part = image[:, int(left * width) : int(right * width)].astype(int)
    return float((np.abs(part - np.array(color)).max(-1) < 45).mean())


def needs_window() -> None:
    """Skip, saying why, where no virtual screen or GUI library is at hand."""
    pytest.importorskip("dearpygui", reason="Dear PyGui is not installed")
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    from PIL import features

    if not features.check("xcb"):
        pytest.skip("this Pillow cannot read the screen (built without xcb)")


class Screen:
    """An X server without a monitor."""

    def __init__(self, width: int = 1024, height: int = 768) -> None:
        read, write = os.pipe()
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "+extension", "GLX", "-nolisten", "tcp"]
        self.process = subprocess.Popen(command, pass_fds=(write,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as numbers:
            number = numbers.readline().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        self.display = f":{number}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Session:
    """The viewer on a :class:`Screen`."""

    def __init__(self, screen: Screen, folder: Path, fields: list[Path], **settings: Any) -> None:
        """``settings`` are preferences to start with, or ``previews=True``."""
        self.screen, self.folder = screen, folder
        self.env = {**os.environ, "DISPLAY": screen.display, "XDG_CONFIG_HOME": str(folder), "LIBGL_ALWAYS_SOFTWARE": "1"}
        self.errors = open(folder / "stderr.txt", "w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("window_child.py"))),
                *(str(folder), json.dumps(settings), *map(str, fields)),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=self.env,
        )  # fmt: skip
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._answer()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._answers.put(line)

    def _answer(self) -> Any:
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            try:
                return json.loads(self._answers.get(timeout=0.5))
            except queue.Empty:
                if self.process.poll() is not None:
                    break
        self.errors.seek(0)
        pytest.fail(f"the viewer does not answer (exit code {self.process.poll()}): {self.errors.read()[-2000:]}")

    def ask(self, expression: str) -> Any:
        """The value of a Python expression within the viewer, between two of its frames."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(expression + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the answer says how
        answer = self._answer()
        if isinstance(answer, dict) and "error" in answer:
            pytest.fail(f"{expression}: {answer['error']}")
        return answer

    def until(self, expression: str) -> Any:
        """Draw frames until the expression is true."""
        return self.wait(lambda: self.ask(expression), expression)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            value = condition()
            if value:
                return value
        pytest.fail(f"waited {PATIENCE:.0f} s in vain for: {what}")

    def settle(self) -> None:
        """Until the still picture is complete and on the screen."""
        self.until("window.engine.idle and window.model.revision == window.asked")
        self.ask("None")
        self.ask("None")

    def do(self, *arguments: object) -> None:
        """One call of xdotool, and a frame for the viewer to notice."""
        subprocess.run(["xdotool", *map(str, arguments)], env=self.env, check=True, capture_output=True, timeout=PATIENCE)
        self.ask("None")

    def origin(self) -> tuple[float, float]:
        """Screen pixel of the window's upper left corner."""
        x, y = self.ask("gui.get_viewport_pos()")
        return x, y

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Screen pixel of a place in the view, in fractions of it."""
        left, top = np.add(self.origin(), self.ask("window.view.place"))
        width, height = self.ask("window.view_size")
        return round(left + x * width), round(top + y * height)

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: int = 1, steps: int = 5) -> None:
        """Press, move in steps, release; places in fractions of the view."""
        (x0, y0), (x1, y1) = self.at(*start), self.at(*end)
        self.do("mousemove", x0, y0)
        self.ask("None")
        self.do("mousedown", button)
        self.until("window.controls.dragging or window.overlays._held is not None")
        for step in range(1, steps + 1):
            self.do("mousemove", round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps))
        for _ in range(2):  # the window sees the last move before the button is let go, however busy the machine is
            self.ask("None")
        self.do("mouseup", button)
        self.until("not window.controls.dragging and window.overlays._held is None")

    def press(self, item: str, at: float = 0.5) -> None:
        """Click a control, given by an expression for its tag, ``at`` a fraction of its width, scrolling the panels to it first."""
        whole = f"gui.get_item_rect_min({item})[1] + gui.get_item_rect_size({item})[1] < gui.get_viewport_client_height() - {STATUS}"
        if not self.ask(f"gui.is_item_visible({item}) and {whole}"):  # focus would turn a slider into a text field
            self.ask(f"gui.focus_item({item})")
        self.until(f"gui.is_item_visible({item})")

        def hovered() -> bool:
            """Panels may still be scrolling: look again where the control is."""
            x, y = np.add(self.origin(), self.ask(f"gui.get_item_rect_min({item})"))
            width, height = self.ask(f"gui.get_item_rect_size({item})")
            self.do("mousemove", round(x + width * at), round(y + height / 2))
            return bool(self.ask(f"gui.is_item_hovered({item})"))

        self.wait(hovered, f"the pointer over {item}")
        self.do("mousedown", 1)
        self.do("mouseup", 1)

    def key(self, *names: str) -> None:
        """Strike keys over the view."""
        self.do("mousemove", *self.at(0.5, 0.5))
        for name in names:
            self.do("keydown", name)
            self.do("keyup", name)

    def grab(self) -> np.ndarray:
        """The view as it is on the screen, uint8 [H, W, 3]."""
        from PIL import ImageGrab

        self.ask("None")
        left, top = np.add(self.origin(), self.ask("window.view.place"))
        width, height = self.ask("window.view_size")
        screen = np.asarray(ImageGrab.grab(xdisplay=self.screen.display).convert("RGB"))
        return screen[round(top) : round(top) + height, round(left) : round(left) + width]

    def close(self) -> int:
        """Close the window; the exit code."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("quit\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = -1
        self._reader.join(PATIENCE)
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # what it was still told, it does not need
        self.errors.close()
        return code
