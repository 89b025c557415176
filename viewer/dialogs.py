"""Windows over the window: open (path field, recent files, browser), save, screenshot, keyboard help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import gui, theme

if TYPE_CHECKING:
    from .window import Window

KEYS = (
    ("Left drag", "turn about the focus (look around while flying)"),
    ("Right or middle drag, Shift + left drag", "pan; what is under the pointer follows it"),
    ("Wheel, + and -", "zoom (while flying: speed)"),
    ("Double click, Shift + click", "turn about what is there"),
    ("W A S D", "fly; with Shift five times as fast"),
    ("E or Space, Q or C", "fly up, down"),
    ("Arrow keys", "turn"),
    ("[ and ], { and }", "previous and next, first and last training camera"),
    ("F", "bring the scene into view"),
    ("Shift + R", "reset the view"),
    ("Page Up, Page Down", "field of view"),
    ("1 to 9", "what to show, in the order of Display, Mode"),
    ("B, Shift + B", "exposure up, down"),
    ("G", "compare with the photograph at a training camera"),
    ("K", "add a keyframe to the camera path"),
    ("P, comma, full stop", "play a moving scene, step back, step on"),
    ("T", "pause and resume training"),
    ("Ctrl + Z, Ctrl + Y", "take an edit back, bring it back"),
    ("Tab", "hide and show the panels"),
    ("F1", "this help"),
    ("Ctrl + O, Ctrl + S, Ctrl + P, Ctrl + Q", "open, save, screenshot, quit"),
)


class Dialogs:
    def __init__(self, window: Window) -> None:
        self.window, self.w = window, window.widgets
        self._open: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether one of them has the keyboard."""
        if self._open is not None and not (gui.does_item_exist(self._open) and gui.is_item_shown(self._open)):
            self._open = None
        return self._open is not None

    def close(self) -> None:
        if self._open is not None and gui.does_item_exist(self._open):
            gui.delete_item(self._open)
        self._open = None

    def open_field(self) -> None:
        def accept(path: str) -> None:
            self.close()
            self.window.files.open(Path(path).expanduser())

        with self._modal("Open a field or run", 620):
            gui.add_text("A .field file or a run folder", color=theme.DIM)
            self._path("", accept, "Open", directories=True)
            recent = self.window.preferences.recent
            if recent:
                gui.add_spacer(height=4)
                gui.add_text("Recent", color=theme.DIM)
                for name in recent:
                    gui.add_selectable(label=_shortened(name), callback=lambda s, a, u: accept(u), user_data=name)

    def save_field(self) -> None:
        def accept(path: str) -> None:
            self.close()
            self.window.files.save(Path(path).expanduser())

        start = self.window.model.entry.path
        with self._modal("Save the field", 620):
            gui.add_text("A file name that ends in .field", color=theme.DIM)
            self._path(str(start) if start else f"{self.window.model.entry.name}.field", accept, "Save")

    def screenshot(self) -> None:
        width, height = self.window.view_size
        with self._modal("Screenshot", 520):
            name = self.w.text("File", "screenshot.png", lambda value: None)
            across = self.w.whole("Width", width, 1, 16384, lambda value: None)
            tall = self.w.whole("Height", height, 1, 16384, lambda value: None)
            samples = self.w.whole("Samples", self.window.preferences.samples, 1, 256, lambda value: None, "Anti-aliasing samples a pixel.")

            def accept() -> None:
                file, size = Path(gui.get_value(name)).expanduser(), (gui.get_value(across), gui.get_value(tall))
                count = gui.get_value(samples)
                self.close()
                self.window.files.screenshot(file, *size, count)

            self._buttons("Save", accept)

    def help(self) -> None:
        with self._modal("Mouse and keyboard", 640), gui.table(header_row=False, policy=gui.mvTable_SizingFixedFit):
            gui.add_table_column()
            gui.add_table_column()
            for keys, meaning in KEYS:
                with gui.table_row():
                    gui.add_text(keys)
                    gui.add_text(meaning, color=theme.DIM)

    def _modal(self, title: str, width: int) -> _Within:
        self.close()
        scale = self.w.scale
        outer_width, outer_height = gui.get_viewport_client_width(), gui.get_viewport_client_height()
        place = (max(0, (outer_width - width * scale) // 2), max(0, outer_height // 6))
        self._open = int(gui.add_window(label=title, modal=True, width=int(width * scale), no_resize=True, pos=place))
        return _Within(self._open)

    def _path(self, start: str, accept: Callable[[str], None], verb: str, *, directories: bool = False) -> None:
        field = gui.add_input_text(default_value=start, width=-1, on_enter=True, callback=lambda s, a, u: accept(a))
        gui.focus_item(field)

        def browse(folders: bool) -> None:
            with gui.file_dialog(
                label=verb, directory_selector=folders, modal=True, width=int(640 * self.w.scale), height=int(420 * self.w.scale),
                callback=lambda s, a, u: gui.set_value(field, a["file_path_name"]), default_path=str(Path.cwd()),
            ):  # fmt: skip
                if not folders:
                    gui.add_file_extension(".field", color=(*theme.GOOD, 255))
                    gui.add_file_extension(".*")

        with gui.group(horizontal=True):
            self.w.button(verb, lambda: accept(gui.get_value(field)), primary=True, width=90)
            self.w.button("Browse files…", lambda: browse(False))
            if directories:
                self.w.button("Browse folders…", lambda: browse(True))
            self.w.button("Cancel", self.close)

    def _buttons(self, verb: str, accept: Callable[[], None]) -> None:
        with gui.group(horizontal=True):
            self.w.button(verb, accept, primary=True, width=90)
            self.w.button("Cancel", self.close)


class _Within:
    """Makes what follows a child of an item."""

    def __init__(self, item: int) -> None:
        self.item = item

    def __enter__(self) -> int:
        gui.push_container_stack(self.item)
        return self.item

    def __exit__(self, *error: object) -> None:
        gui.pop_container_stack()


def _shortened(path: str, most: int = 78) -> str:
    return path if len(path) <= most else "…" + path[-(most - 1) :]
