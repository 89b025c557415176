"""Bakes a preview of every open field in the background, and says how that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .engine import FieldSource, preview_settings
from .entries import Entry
from .jobs import Job
from .preview import preview_for, preview_psnr, why_no_preview

if TYPE_CHECKING:
    from .window import Window


class Previews:
    def __init__(self, window: Window, enabled: bool = True) -> None:
        self.window, self.enabled = window, enabled
        self._baking: dict[int, Job] = {}

    def state(self, entry: Entry) -> str:
        """What to say about an entry's preview."""
        job = self._baking.get(id(entry))
        if entry.preview is not None:
            return "ready" if entry.preview_psnr is None else f"{entry.preview_psnr:.1f} dB to the field"
        if job is not None and not job.done:
            return f"baking, {100.0 * job.share:.0f} %"
        return why_no_preview(entry.field) or (job.failure if job is not None and job.failure else "none")

    def start(self, entry: Entry) -> None:
        if not self.enabled or entry.preview is not None or why_no_preview(entry.field) is not None:
            return
        field, file = entry.field, None if entry.unsaved else entry.path
        camera = entry.cameras[0] if entry.cameras else self.window.model.navigator.camera(256, 256)

        def work(job: Job) -> tuple[Any, float]:
            preview = preview_for(field, file, job.progress)
            job.progress(1.0)
            shrink = min(1.0, 256.0 / max(camera.width, camera.height))
            small = camera.resized(max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))
            quick = preview_settings(FieldSource(field, entry.settings, preview))
            return preview, preview_psnr(field, preview, small, entry.settings, quick)

        def ready(job: Job) -> None:
            if entry.field is field:
                entry.preview, entry.preview_psnr = job.result
                self.window.model.touch()

        self._baking[id(entry)] = self.window.start(Job("preview", work, ready))
