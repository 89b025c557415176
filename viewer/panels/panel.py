"""What a panel of the side bar is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .. import gui
from ..overlay import Line, Projector

if TYPE_CHECKING:
    from ..window import Window


class Panel:
    """One collapsing header. ``build`` makes its controls once, ``refresh`` brings them up to date some times a second."""

    title: ClassVar[str]
    open_at_start: ClassVar[bool] = False
    always: ClassVar[bool] = False
    """Refreshed even while it is folded up."""

    def __init__(self, window: Window) -> None:
        self.window, self.model, self.w = window, window.model, window.widgets
        self.header = 0

    def place(self) -> None:
        """Build within the current container."""
        self.header = int(gui.add_collapsing_header(label=self.title, default_open=self.open_at_start))
        with gui.group(parent=self.header, indent=4 * self.w.scale):
            self.build()
            gui.add_spacer(height=4)

    def build(self) -> None:
        raise NotImplementedError

    def refresh(self) -> None:
        """Show the model's state; called only while the panel is open."""

    def tick(self, now: float) -> None:
        """Once a frame, open or not, with the clock of ``time.perf_counter``."""

    def key(self, name: str, shift: bool) -> bool:
        """A key nobody else wanted; True: it meant something here."""
        return False

    def overlay(self, view: Projector) -> list[Line]:
        """What to draw over the picture; set ``window.overlays.stale`` when it has changed."""
        return []

    @property
    def is_open(self) -> bool:
        return bool(gui.get_value(self.header))
