"""Rows of the side panels: a label on the left, a control on the right, all of one width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import gui, theme

LABEL = 104
"""Width of labels, unscaled pixels."""
Action = tuple[str, Callable[[], Any]] | tuple[str, Callable[[], Any], str]
"""What a button says, what it does, and perhaps a hint."""


class Widgets:
    """Makes controls at the display's scale, and knows which of them take text."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self._typed: list[int] = []
        self._primary: int | None = None

    def typing(self) -> bool:
        """Whether keys belong to a control now."""
        self._typed = [tag for tag in self._typed if gui.does_item_exist(tag)]
        return any(gui.is_item_active(tag) for tag in self._typed)

    @contextmanager
    def row(self, label: str, hint: str = "") -> Iterator[None]:
        with gui.group(horizontal=True, xoffset=LABEL * self.scale) as row:
            gui.add_text(label, color=theme.DIM)
            yield
        if hint:  # a tooltip inside the row would take a column
            self.hint(row, hint)

    def hint(self, item: int, text: str) -> None:
        with gui.tooltip(item, delay=0.4):
            gui.add_text(text, wrap=320 * self.scale)

    def value(self, label: str, text: str = "", hint: str = "") -> int:
        """A text that is shown beside a label."""
        with self.row(label, hint):
            return int(gui.add_text(text, wrap=0))

    def choice(self, label: str, items: Sequence[str], value: str, call: Callable[[str], None], hint: str = "") -> int:
        with self.row(label, hint):
            return int(gui.add_combo(list(items), default_value=value, width=-1, callback=lambda s, a, u: call(a)))

    def slider(
        self, label: str, value: float, low: float, high: float, call: Callable[[float], None], hint: str = "", form: str = "%.2f"
    ) -> int:
        with self.row(label, hint):
            tag = gui.add_slider_float(
                default_value=value, min_value=low, max_value=high, format=form, width=-1, callback=lambda s, a, u: call(a)
            )
        self._typed.append(tag)
        return int(tag)

    def number(
        self, label: str, value: float, low: float, high: float, call: Callable[[float], None], hint: str = "",
        form: str = "%.3g", speed: float = 0.01,
    ) -> int:  # fmt: skip
        """A number to drag or, after a double click, to type."""
        with self.row(label, hint):
            tag = gui.add_drag_float(
                default_value=value, min_value=low, max_value=high, clamped=True, speed=speed, format=form, width=-1,
                callback=lambda s, a, u: call(a),
            )  # fmt: skip
        self._typed.append(tag)
        return int(tag)

    def whole(self, label: str, value: int, low: int, high: int, call: Callable[[int], None], hint: str = "") -> int:
        with self.row(label, hint):
            tag = gui.add_input_int(
                default_value=value, min_value=low, max_value=high, min_clamped=True, max_clamped=True, width=-1, on_enter=False,
                step=0, callback=lambda s, a, u: call(a),
            )  # fmt: skip
        self._typed.append(tag)
        return int(tag)

    def triple(self, label: str, value: Sequence[float], call: Callable[[list[float]], None], hint: str = "", speed: float = 0.01) -> int:
        with self.row(label, hint):
            tag = gui.add_drag_floatx(
                default_value=list(value), size=3, speed=speed, format="%.2f", width=-1, callback=lambda s, a, u: call(list(a[:3]))
            )
        self._typed.append(tag)
        return int(tag)

    def text(self, label: str, value: str, call: Callable[[str], None], hint: str = "", *, enter: bool = False) -> int:
        with self.row(label, hint):
            tag = gui.add_input_text(default_value=value, width=-1, on_enter=enter, callback=lambda s, a, u: call(a))
        self._typed.append(tag)
        return int(tag)

    def check(self, label: str, value: bool, call: Callable[[bool], None], hint: str = "") -> int:
        tag = gui.add_checkbox(label=label, default_value=value, callback=lambda s, a, u: call(a))
        if hint:
            self.hint(tag, hint)
        return int(tag)

    def button(self, label: str, call: Callable[[], Any], hint: str = "", *, primary: bool = False, width: int = 0) -> int:
        tag = gui.add_button(label=label, width=round(width * self.scale) if width > 0 else width, callback=lambda s, a, u: call())
        if primary:
            self._primary = self._primary or theme.primary_theme()
            gui.bind_item_theme(tag, self._primary)
        if hint:
            self.hint(tag, hint)
        return int(tag)

    def buttons(self, *actions: Action, primary: bool = False) -> list[int]:
        """A row of buttons of one width, as wide as the panel; ``primary``: the first is what the panel is there for."""
        made = []
        with gui.table(header_row=False, policy=gui.mvTable_SizingStretchSame, pad_outerX=False):
            for _ in actions:
                gui.add_table_column()
            with gui.table_row():
                for index, (label, call, *hint) in enumerate(actions):
                    with gui.group():  # a tooltip must not take a column
                        made.append(self.button(label, call, *hint, primary=primary and index == 0, width=-1))
        return made

    def section(self, title: str) -> int:
        """A line with a name in it, above what belongs together."""
        gui.add_spacer(height=round(2 * self.scale))
        return int(gui.add_separator(label=title))

    def note(self, text: str = "", color: tuple[int, int, int] = theme.DIM) -> int:
        """A paragraph."""
        return int(gui.add_text(text, wrap=0, color=color))


def set_text(tag: int, text: str) -> None:
    """Change a text only where it differs."""
    if gui.get_value(tag) != text:
        gui.set_value(tag, text)
