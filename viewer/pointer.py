"""Where the mouse is now. On the GUI's thread, between frames.

Dear PyGui's own answer is as old as the last frame, and a window that is drawn in software takes its time over one: what
follows the mouse would lag by it. GLFW, which Dear PyGui brings along, asks the X server itself.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from functools import cache

from . import gui


def at_last_frame() -> tuple[float, float]:
    """Pixels of the window's inside, as the items of the last frame saw it."""
    x, y = gui.get_mouse_pos(local=False)
    return float(x), float(y)


def now() -> tuple[float, float]:
    """Pixels of the window's inside; as of the last frame where nobody knows better."""
    glfw = _glfw()
    window = None if glfw is None else glfw.glfwGetCurrentContext()
    if glfw is None or not window:
        return at_last_frame()
    x, y = ctypes.c_double(), ctypes.c_double()
    glfw.glfwGetCursorPos(window, ctypes.byref(x), ctypes.byref(y))
    return x.value, y.value


@cache
def _glfw() -> ctypes.CDLL | None:
    """Dear PyGui's own GLFW, where its library gives it away."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        glfw = ctypes.CDLL(str(importlib.import_module("dearpygui._dearpygui").__file__))
        glfw.glfwGetCurrentContext.restype = ctypes.c_void_p
        glfw.glfwGetCursorPos.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        glfw.glfwGetCursorPos.restype = None
    except (ImportError, OSError, AttributeError):
        return None
    return glfw
