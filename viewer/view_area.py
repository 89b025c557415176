"""The picture and what is drawn over it: image, lines, wipe, handles, messages. On the GUI's thread."""

from __future__ import annotations

from collections.abc import Sequence

from . import gui, theme
from .engine import Picture
from .overlay import TEXT_COLOR, Handle, Label, Line
from .texture import Textures

LETTERS = 13
"""Size of words over the picture, unscaled pixels."""


class ViewArea:
    """A drawlist as large as its place allows."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.textures = Textures()
        self.size = (64, 64)
        self._image: int | None = None
        self.frame = int(gui.add_child_window(border=False, no_scrollbar=True, no_scroll_with_mouse=True))
        gui.bind_item_theme(self.frame, theme.bare_theme())
        self.canvas = int(gui.add_drawlist(*self.size, parent=self.frame))
        self._picture = int(gui.add_draw_layer(parent=self.canvas))
        self._lines = int(gui.add_draw_layer(parent=self.canvas))
        self._words = int(gui.add_draw_layer(parent=self.canvas))

    def resize(self, width: int, height: int) -> None:
        self.size = (max(width, 16), max(height, 16))
        gui.configure_item(self.frame, width=self.size[0], height=self.size[1])
        gui.configure_item(self.canvas, width=self.size[0], height=self.size[1])
        if self._image is not None:
            gui.configure_item(self._image, pmax=self.size)

    @property
    def hovered(self) -> bool:
        return bool(gui.is_item_hovered(self.canvas))

    @property
    def place(self) -> tuple[float, float]:
        """Pixel of the viewport where the picture's corner is."""
        x, y = gui.get_item_rect_min(self.canvas)
        return float(x), float(y)

    def show(self, picture: Picture) -> None:
        tag, start, end = self.textures.show(picture.rgba)
        if self._image is None:
            self._image = int(gui.draw_image(tag, (0, 0), self.size, uv_min=start, uv_max=end, parent=self._picture))
        else:
            gui.configure_item(self._image, texture_tag=tag, uv_min=start, uv_max=end)

    def hide(self) -> None:
        """Show no picture: a failed one must not look like the newest."""
        if self._image is not None:
            gui.delete_item(self._image)
            self._image = None

    def draw(self, lines: Sequence[Line], handles: Sequence[Handle] = (), labels: Sequence[Label] = ()) -> None:
        """Replace what is drawn over the picture."""
        gui.delete_item(self._lines, children_only=True)
        for line in lines:
            gui.draw_line(line.start, line.end, color=line.color, thickness=line.thickness * self.scale, parent=self._lines)
        for handle in handles:
            radius = 6 * self.scale
            gui.draw_circle(handle.place, radius, color=(255, 255, 255, 255), fill=handle.color, parent=self._lines)
        for label in labels:
            if label.boxed:
                self._plate(label.place, label.text, self._lines)
            gui.draw_text(label.place, label.text, size=LETTERS * self.scale, color=label.color, parent=self._lines)

    def say(self, title: str, text: str = "", corner: str = "") -> None:
        """A message in the middle of the view, and a short one in its lower left corner."""
        gui.delete_item(self._words, children_only=True)
        width, height = self.size
        if title:
            size = 17 * self.scale
            rows = [title, *_folded(text, max(20, int(width / (8.2 * self.scale)) - 6))]
            top = height / 2 - len(rows) * size
            gui.draw_rectangle(
                (0, top - size),
                (width, top + (len(rows) + 0.6) * 1.35 * size),
                color=(0, 0, 0, 0),
                fill=(20, 22, 26, 225),
                parent=self._words,
            )
            for number, row in enumerate(rows):
                color = (*(theme.BAD if number == 0 else theme.TEXT), 255)
                gui.draw_text((24 * self.scale, top + 1.35 * number * size), row, size=size, color=color, parent=self._words)
        if corner:
            place = (14 * self.scale, height - (LETTERS + 16) * self.scale)
            self._plate(place, corner, self._words)
            gui.draw_text(place, corner, size=LETTERS * self.scale, color=TEXT_COLOR, parent=self._words)

    def _plate(self, place: tuple[float, float], text: str, layer: int) -> None:
        """Something dark behind words that start at a place."""
        (x, y), size = place, LETTERS * self.scale
        across, pad = 0.58 * size * len(text), 6 * self.scale
        corners = (x - pad, y - 0.6 * pad), (x + across + pad, y + size + 0.8 * pad)
        gui.draw_rectangle(*corners, color=(0, 0, 0, 0), fill=(20, 22, 26, 180), rounding=4 * self.scale, parent=layer)


def _folded(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) if text else []
