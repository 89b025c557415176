"""The only door to Dear PyGui, opened when it is first used: ``from . import gui``, then ``gui.add_button(...)``.

Also what must hold before a window can be: the library, a display, OpenGL.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.util
import os
import sys
from typing import Any

from ..errors import UserError

HEADLESS = "render without a window: fieldmorph view FIELD --screenshot picture.png, or fieldmorph render FIELD --out pictures"
_GLX_RGBA, _GLX_DOUBLEBUFFER, _NONE = 4, 5, 0


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(importlib.import_module("dearpygui.dearpygui"), name)


def require_window() -> None:
    """Make sure that a window can be opened.

    Raises:
        UserError: Dear PyGui, a display or OpenGL is missing; says how to go on without.
    """
    if importlib.util.find_spec("dearpygui") is None:
        raise UserError(f"the viewer needs Dear PyGui: pip install 'fieldmorph[viewer]'; or {HEADLESS}")
    if sys.platform.startswith("linux"):
        reason = _why_no_x11()
        if reason is not None:
            raise UserError(f"{reason}; {HEADLESS}")
    try:
        importlib.import_module("dearpygui.dearpygui")
    except (ImportError, OSError) as error:
        raise UserError(
            f"Dear PyGui cannot be loaded ({error}); repair it with pip install --force-reinstall dearpygui, or {HEADLESS}"
        ) from error


def _why_no_x11() -> str | None:
    """Why no OpenGL window can be opened on X11 (Dear PyGui on Linux knows no other), or None.

    GLFW would only crash: so ask the X server and GLX themselves.
    """
    display = os.environ.get("DISPLAY")
    if not display:
        return "there is no display (DISPLAY is not set)"
    try:
        x11 = ctypes.CDLL(ctypes.util.find_library("X11") or "libX11.so.6")
        gl = ctypes.CDLL(ctypes.util.find_library("GL") or "libGL.so.1")
    except OSError as error:
        return f"the windowing libraries are not installed ({error})"
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    gl.glXQueryExtension.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    gl.glXChooseVisual.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    gl.glXChooseVisual.restype = ctypes.c_void_p
    connection = x11.XOpenDisplay(display.encode())
    if not connection:
        return f"the display {display} cannot be reached"
    try:
        wanted = (ctypes.c_int * 3)(_GLX_RGBA, _GLX_DOUBLEBUFFER, _NONE)
        if not gl.glXQueryExtension(connection, None, None) or not gl.glXChooseVisual(connection, 0, wanted):
            return f"the display {display} offers no OpenGL"
    finally:
        x11.XCloseDisplay(connection)
    return None


def ui_scale() -> float:
    """How much larger than usual things should be drawn, from the desktop's settings; 1 where they say nothing."""
    for name in ("FIELDMORPH_UI_SCALE", "GDK_SCALE", "QT_SCALE_FACTOR"):
        try:
            value = float(os.environ.get(name, ""))
        except ValueError:
            continue
        if 0.5 <= value <= 4.0:
            return value
    system: str = sys.platform  # a checker of types would believe the literal
    if system == "win32":
        return _windows_scale()
    return _x11_scale() if system.startswith("linux") else 1.0  # macOS scales windows itself


def _windows_scale() -> float:
    windll: Any = getattr(ctypes, "windll", None)
    try:
        windll.shcore.SetProcessDpiAwareness(2)  # or Windows would draw the window small and blow it up
        return max(1.0, windll.user32.GetDpiForSystem() / 96.0)
    except (AttributeError, OSError):
        return 1.0


def _x11_scale() -> float:
    """Xft.dpi, which desktops set, over the usual 96."""
    try:
        x11 = ctypes.CDLL(ctypes.util.find_library("X11") or "libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XGetDefault.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
        x11.XGetDefault.restype = ctypes.c_char_p
        x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
        connection = x11.XOpenDisplay(os.environ.get("DISPLAY", "").encode())
        if not connection:
            return 1.0
        text = x11.XGetDefault(connection, b"Xft", b"dpi")
        scale = float(text) / 96.0 if text else 1.0
        x11.XCloseDisplay(connection)
    except (OSError, ValueError, AttributeError):
        return 1.0
    return scale if 0.5 <= scale <= 4.0 else 1.0
