"""The picture and what is drawn over it: image, lines, wipe, handles, messages. On the GUI's thread."""

from __future__ import annotations

from collections.abc import Sequence

from . import gui, theme
from .engine import Picture
from .overlay import Handle, Line
from .texture import Textures


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
        tag = self.textures.show(picture.rgba)
        if self._image is None:
            self._image = int(gui.draw_image(tag, (0, 0), self.size, parent=self._picture))
        else:
            gui.configure_item(self._image, texture_tag=tag)

    def hide(self) -> None:
        """Show no picture: a failed one must not look like the newest."""
        if self._image is not None:
            gui.delete_item(self._image)
            self._image = None

    def draw(self, lines: Sequence[Line], handles: Sequence[Handle] = (), labels: Sequence[tuple[tuple[float, float], str]] = ()) -> None:
        """Replace what is drawn over the picture."""
        gui.delete_item(self._lines, children_only=True)
        for line in lines:
            gui.draw_line(line.start, line.end, color=line.color, thickness=line.thickness * self.scale, parent=self._lines)
        for handle in handles:
            radius = 6 * self.scale
            gui.draw_circle(handle.place, radius, color=(255, 255, 255, 255), fill=(80, 200, 255, 230), parent=self._lines)
        for place, text in labels:
            gui.draw_text(place, text, size=13 * self.scale, color=(*theme.TEXT, 255), parent=self._lines)

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
            size = 13 * self.scale
            across = 0.58 * size * len(corner) + 14 * self.scale
            low = height - 10 * self.scale
            gui.draw_rectangle(
                (8 * self.scale, low - size - 9 * self.scale), (8 * self.scale + across, low), color=(0, 0, 0, 0), fill=(20, 22, 26, 170),
                rounding=4, parent=self._words,
            )  # fmt: skip
            gui.draw_text((14 * self.scale, low - size - 5 * self.scale), corner, size=size, color=(235, 238, 242, 255), parent=self._words)


def _folded(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) if text else []
