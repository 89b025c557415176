"""Opening, saving and photographing, as the window's menus ask for it; what goes wrong is said in the status line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import progress
from ..errors import UserError
from ..render.images import save_image
from ..representations.field_file import save_field
from .entries import Entry, open_entry
from .jobs import Job
from .screenshot import render_request

if TYPE_CHECKING:
    from .window import Window


class Files:
    def __init__(self, window: Window) -> None:
        self.window = window

    def open(self, path: Path) -> None:
        """Open a field and show it; a mistake is said in the status line."""
        try:
            self.add(open_entry(path, self.window.device))
            self.window.preferences.opened(path)
        except UserError as error:
            self.window.say(str(error))

    def add(self, entry: Entry) -> None:
        self.window.model.add(entry)
        self.window.previews.start(entry)
        self.window.say(f"{entry.name} is open")

    def save(self, path: Path) -> None:
        entry = self.window.model.entry
        try:
            if path.suffix != ".field":
                raise UserError(f"{path}: give the file a name that ends in .field")
            save_field(entry.field, path, precision="float16")
        except UserError as error:
            self.window.say(str(error))
            return
        entry.path, entry.unsaved = path, False
        self.window.preferences.opened(path)
        self.window.say(f"wrote {path} ({progress.format_bytes(path.stat().st_size)})")

    def screenshot(self, file: Path, width: int, height: int, samples: int) -> None:
        """Render the view at any size into a PNG, beside the window."""
        try:
            request = self.window.model.request(width, height)
        except UserError as error:
            self.window.say(str(error))
            return
        look, comparison = self.window.model.look, self.window.model.comparison

        def work(job: Job) -> str:
            picture = render_request(request, look, comparison, samples, job.progress, job.cancel)
            save_image(file, picture.rgba[..., :3])
            return f"wrote {file} ({width}×{height})"

        self.window.start(Job("screenshot", work, lambda job: self.window.say(job.result)))
