"""Colours, spacing and font of the window."""

from __future__ import annotations

from pathlib import Path

from . import gui

ACCENT = (74, 144, 226)
TEXT, DIM = (222, 226, 232), (138, 146, 158)
GOOD, BAD = (112, 200, 130), (240, 120, 100)
WINDOW, PANEL, FIELD, HEADER = (24, 26, 30), (30, 33, 38), (43, 47, 54), (38, 42, 49)
FONT_SIZE = 15


def font_file() -> Path | None:
    """DejaVu Sans, which matplotlib brings, or None where it does not."""
    from matplotlib import get_data_path

    file = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return file if file.is_file() else None


def bind_font(scale: float) -> None:
    """Load the font at its size on this display, so that nothing is blown up."""
    file = font_file()
    if file is None:
        gui.set_global_font_scale(scale)
        return
    with gui.font_registry():
        font = gui.add_font(str(file), round(FONT_SIZE * scale))
    gui.bind_font(font)


def bind_theme(scale: float) -> None:
    """Dark, flat, with one accent."""
    colors = {
        "WindowBg": WINDOW, "ChildBg": PANEL, "PopupBg": PANEL, "MenuBarBg": WINDOW, "Border": (52, 57, 66), "Text": TEXT,
        "TextDisabled": DIM, "FrameBg": FIELD, "FrameBgHovered": (54, 59, 68), "FrameBgActive": (62, 68, 78), "TitleBg": WINDOW,
        "TitleBgActive": HEADER, "CheckMark": ACCENT, "SliderGrab": ACCENT, "SliderGrabActive": (110, 172, 245), "Button": FIELD,
        "ButtonHovered": (58, 64, 74), "ButtonActive": ACCENT, "Header": HEADER, "HeaderHovered": (48, 53, 62),
        "HeaderActive": (56, 62, 72),
        "Separator": (52, 57, 66), "ScrollbarBg": PANEL, "ScrollbarGrab": (66, 72, 82), "PlotLines": ACCENT, "PlotHistogram": ACCENT,
        "Tab": FIELD, "TabActive": ACCENT, "TabHovered": (58, 64, 74), "TextSelectedBg": (60, 90, 140), "ModalWindowDimBg": (0, 0, 0, 120),
    }  # fmt: skip
    sizes = {
        "WindowPadding": (8, 8), "FramePadding": (7, 4), "ItemSpacing": (7, 6), "ItemInnerSpacing": (6, 4), "IndentSpacing": (12,),
        "ScrollbarSize": (11,), "GrabMinSize": (10,), "FrameRounding": (4,), "ChildRounding": (4,), "PopupRounding": (4,),
        "GrabRounding": (3,), "WindowRounding": (5,), "ChildBorderSize": (0,), "WindowBorderSize": (0,),
    }  # fmt: skip
    with gui.theme() as theme, gui.theme_component(gui.mvAll):
        for name, color in colors.items():
            gui.add_theme_color(getattr(gui, f"mvThemeCol_{name}"), color, category=gui.mvThemeCat_Core)
        for name, values in sizes.items():
            gui.add_theme_style(getattr(gui, f"mvStyleVar_{name}"), *(v * scale for v in values), category=gui.mvThemeCat_Core)
    gui.bind_theme(theme)


def bare_theme() -> int:
    """A theme without padding, for the view itself."""
    with gui.theme() as theme, gui.theme_component(gui.mvAll):
        gui.add_theme_style(gui.mvStyleVar_WindowPadding, 0, 0, category=gui.mvThemeCat_Core)
        gui.add_theme_color(gui.mvThemeCol_ChildBg, (0, 0, 0, 0), category=gui.mvThemeCat_Core)
    return int(theme)


def see_through_theme() -> int:
    """A theme for the window behind everything: where OpenGL works in software, filling it costs as much as the picture on it.
    The screen is cleared to its colour all the same."""
    with gui.theme() as theme, gui.theme_component(gui.mvWindowAppItem):
        gui.add_theme_color(gui.mvThemeCol_WindowBg, (*WINDOW, 0), category=gui.mvThemeCat_Core)
    return int(theme)


def primary_theme() -> int:
    """A theme for the button a panel is there for."""
    with gui.theme() as theme, gui.theme_component(gui.mvButton):
        gui.add_theme_color(gui.mvThemeCol_Button, (52, 104, 168), category=gui.mvThemeCat_Core)
        gui.add_theme_color(gui.mvThemeCol_ButtonHovered, ACCENT, category=gui.mvThemeCat_Core)
    return int(theme)
