"""Two fields, or a field and the photograph behind a training camera, in one view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from .. import gui
from ..engine import Layout
from ..widgets import set_text
from .panel import Panel

LAYOUTS: dict[str, Layout] = {"off": "single", "side by side": "side", "wipe": "wipe", "difference": "difference"}
PHOTOGRAPH, ALL = "the photograph", "all that are open"


class ComparePanel(Panel):
    title: ClassVar[str] = "Compare"

    def build(self) -> None:
        self.layout = self.w.choice("Show", list(LAYOUTS), "off", self._layout, "How the two share the view; the camera is common.")
        self.other = self.w.choice("With", self._others(), self._other_name(), self._choose)
        self.wipe = self.w.slider("Wipe at", self.model.comparison.wipe, 0.0, 1.0, lambda v: self._set(wipe=v), "Or drag the line.")
        self.gain = self.w.slider("Difference ×", self.model.comparison.gain, 1.0, 50.0, lambda v: self._set(gain=v), form="%.0f")
        self.psnr = self.w.value("PSNR", "", "Between the two finished pictures in the window.")
        self._shown: list[str] = []

    def refresh(self) -> None:
        others = self._others()
        if others != self._shown:
            self._shown = others
            gui.configure_item(self.other, items=others)
        set_text(self.other, self._other_name())
        set_text(self.layout, next(name for name, layout in LAYOUTS.items() if layout == self.model.layout))
        if not gui.is_item_active(self.wipe):
            gui.set_value(self.wipe, self.model.comparison.wipe)
        picture = self.window.engine.shown
        finished = picture is not None and picture.psnr is not None and self.model.layout != "single"
        set_text(self.psnr, f"{picture.psnr:.2f} dB" if finished and picture is not None else "–")

    def key(self, name: str, shift: bool) -> bool:
        if name != "G":
            return False
        if self.model.layout != "single" and self.model.partner == "photograph":
            self.model.compare("single")
        else:
            self.model.compare("wipe", "photograph")
        return True

    def _others(self) -> list[str]:
        names = [entry.name for index, entry in enumerate(self.model.entries) if index != self.model.active]
        return [*names, *([ALL] if len(names) > 1 else []), PHOTOGRAPH]

    def _other_name(self) -> str:
        model = self.model
        if model.partner == "photograph" or len(model.entries) < 2:
            return PHOTOGRAPH
        if model.partner == "all" and len(model.entries) > 2:
            return ALL
        return model.entries[model.partner_index].name

    def _layout(self, name: str) -> None:
        partner = self.model.partner if len(self.model.entries) > 1 else "photograph"
        self.model.compare(LAYOUTS[name], partner)

    def _choose(self, name: str) -> None:
        if name == PHOTOGRAPH:
            self.model.compare(self.model.layout, "photograph")
            return
        if name == ALL:
            self.model.compare("side", "all")
            return
        self.model.partner_index = [entry.name for entry in self.model.entries].index(name)
        self.model.compare(self.model.layout, "field")

    def _set(self, **changes: Any) -> None:
        self.model.comparison = replace(self.model.comparison, **changes)
