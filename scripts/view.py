"""``fieldmorph view``: the desktop viewer, and pictures of what it would show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from .. import progress
from ..errors import UserError
from .options import Compute, Talk, WarmUp, claim_folder, parse_size, value

if TYPE_CHECKING:
    from ..viewer.entries import Entry
    from ..viewer.model import Model


@dataclass(frozen=True, kw_only=True)
class View(Compute, Talk):
    """Look at fields in a window: fly through them, compare them, make films.

    Several fields are compared side by side. With --screenshot no window is opened: the picture it would show is written
    and that is all, on machines without a display, too. The F1 key lists mouse and keys.
    """

    fields: Annotated[Positional[tuple[Path, ...]], value("FIELD_OR_RUN")]
    """Field files or run folders; more than one are compared."""
    data: Annotated[Path | None, value("DATA", "what it was trained on")] = None
    """Dataset whose photographs the first field can be compared with."""
    screenshot: Annotated[Path | None, value("FILE.png")] = None
    """Write a picture and open no window."""
    size: Annotated[str | None, value("WxH", "the last window's, or 1280x860")] = None
    """Size of the window, or of the picture of --screenshot (default there: 800x800)."""
    camera: Annotated[int | None, value("N", "a view of the whole scene")] = None
    """Start at the N-th training camera, from 1."""
    mode: Literal["color", "depth", "normals", "opacity", "cost", "occupancy", "saliency", "static", "dynamic", "moving"] = "color"
    """What to show."""
    background: Annotated[Literal["white", "black", "grey", "checker", "learned"] | None, value("COLOUR", "the field's")] = None
    """What shows behind the scene."""
    compare: Annotated[Literal["side", "wipe", "difference", "photograph"] | None, value("HOW", "side, with two fields")] = None
    """How two fields share the view; photograph wipes the first against its training image (with --camera)."""
    samples: Annotated[int | None, value("N", "16")] = None
    """Anti-aliasing samples of a still picture."""
    fps: Annotated[float | None, value("F", "30")] = None
    """Frames per second to hold while the view moves; resolution gives way."""

    def run(self) -> int:
        self.talk()
        size = parse_size(self.size) if self.size else None
        if not self.fields:
            raise UserError("name a FIELD_OR_RUN to look at: a .field file or a run folder")
        if self.samples is not None and not 1 <= self.samples <= 256:
            raise UserError(f"--samples {self.samples}: give 1 to 256")
        if self.fps is not None and not 5.0 <= self.fps <= 120.0:
            raise UserError(f"--fps {self.fps}: give 5 to 120")
        if self.screenshot is not None:
            if self.screenshot.suffix.lower() != ".png":
                raise UserError(f"--screenshot {self.screenshot}: give a file name that ends in .png")
            claim_folder(self.screenshot.absolute().parent, overwrite=True)
        else:
            from ..viewer.gui import require_window

            require_window()  # before anything that takes time
        device = self.choose_device()
        from ..viewer.entries import open_entry

        entries = [open_entry(path, str(device), self.data if index == 0 else None) for index, path in enumerate(self.fields)]
        warm_up = WarmUp(entries[0].field, device)
        if self.screenshot is not None:
            warm_up.wait()
            return self._picture(entries, self.screenshot, size or (800, 800))
        return self._window(entries, size, str(device))

    def _picture(self, entries: list[Entry], file: Path, size: tuple[int, int]) -> int:
        from ..viewer.screenshot import save_screenshot

        model = self._model(entries)
        with progress.Bar("screenshot", 1.0) as bar:
            save_screenshot(model, file, *size, self.samples or 16, bar.update)
        progress.say(f"wrote {file} ({progress.format_bytes(file.stat().st_size)})")
        return 0

    def _window(self, entries: list[Entry], size: tuple[int, int] | None, device: str) -> int:
        from ..viewer.gui import ui_scale
        from ..viewer.preferences import load_preferences
        from ..viewer.window import Window

        preferences = load_preferences()
        for path in reversed(self.fields):
            preferences.opened(path)
        if size is not None:
            preferences.width, preferences.height = size
            preferences.scale = ui_scale()
        preferences.samples, preferences.fps = self.samples or preferences.samples, self.fps or preferences.fps
        Window(self._model(entries), preferences, device=device).run()
        return 0

    def _model(self, entries: list[Entry]) -> Model:
        from ..viewer.entries import unique_name
        from ..viewer.model import Model

        for index, entry in enumerate(entries):
            entry.name = unique_name(entry.name, (other.name for other in entries[:index]))
        model = Model(entries)
        model.look = replace(model.look, mode=self.mode, background=self.background or model.look.background)
        cameras = entries[0].cameras
        if self.camera is not None:
            if not 1 <= self.camera <= len(cameras):
                raise UserError(f"--camera {self.camera}: {self.fields[0]} recorded {len(cameras)} training cameras")
            model.navigator.to_view(self.camera - 1)
        if self.compare == "photograph":
            if self.camera is None:
                raise UserError("--compare photograph needs a training camera: add --camera N")
            model.compare("wipe", "photograph")
        elif self.compare is not None:
            if len(entries) < 2:
                raise UserError(f"--compare {self.compare} needs a second field: name two")
            model.compare(self.compare, "all")
        elif len(entries) > 1:
            model.compare("side", "all")
        return model
