"""The active field in fewer bytes: to a size, or as small as a loss allows; the packed file opens beside it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ... import progress
from ...compress.pack import Report
from ...compress.search import Goal
from .. import gui
from ..conversion import pack_copy
from ..entries import Entry
from ..jobs import Job
from ..widgets import set_text
from .panel import Panel

BY_SIZE, BY_LOSS = "a size", "a loss"


class CompressPanel(Panel):
    title: ClassVar[str] = "Compress"

    def build(self) -> None:
        self._job: Job | None = None
        self._entry: Entry | None = None
        self.goal = self.w.choice("To", [BY_SIZE, BY_LOSS], BY_SIZE, self._choose, "What the file must keep to.")
        self.size = self.w.number("Size, MB", 1.0, 0.01, 1000.0, lambda v: None, "Most bytes of the file, in millions.", "%.2f", 0.01)
        self.loss = self.w.number("Loss, dB", 0.2, 0.01, 10.0, lambda v: None, "Most PSNR that may be lost.", "%.2f", 0.005)
        self.file = self.w.text("File", self._file_name(), lambda v: None, "Written when the search has ended.")
        self.begin, self.end = self.w.buttons(
            ("Compress", self._start, "Quantise and entropy-code the active field."), ("Cancel", self._stop), primary=True
        )
        self.bar = gui.add_progress_bar(default_value=0.0, width=-1, show=False)
        self.state = self.w.note("The field stays; the packed file opens beside it.")
        self._choose(BY_SIZE)

    def refresh(self) -> None:
        entry = self.model.entry
        if entry is not self._entry:
            self._entry = entry
            gui.set_value(self.file, self._file_name())
        job = self._job
        running = job is not None and not job.done
        gui.configure_item(self.bar, show=running)
        if job is not None and running:
            gui.set_value(self.bar, job.share)
            gui.configure_item(self.bar, overlay=f"{100.0 * job.share:.0f} %")
            set_text(self.state, job.note or "measuring…")
        elif job is not None and job.failure is not None:
            set_text(self.state, job.failure)
        elif job is not None and job.stopped:
            set_text(self.state, "Cancelled; nothing was written.")

    def _file_name(self) -> str:
        entry = self.model.entry
        return str((entry.path.parent if entry.path else Path()) / f"{entry.name}-packed.field")

    def _choose(self, goal: str) -> None:
        gui.configure_item(gui.get_item_parent(self.size), show=goal == BY_SIZE)
        gui.configure_item(gui.get_item_parent(self.loss), show=goal == BY_LOSS)

    def _start(self) -> None:
        if self._job is not None and not self._job.done:
            self.window.say("a field is being compressed already")
            return
        entry, file = self.model.entry, Path(gui.get_value(self.file)).expanduser()
        by_size = gui.get_value(self.goal) == BY_SIZE
        goal = Goal(size=round(1e6 * float(gui.get_value(self.size)))) if by_size else Goal(drop=float(gui.get_value(self.loss)))
        if file.exists():
            self.window.say(f"{file} exists; name another file")
            return
        field = entry.field

        def work(job: Job) -> tuple[Entry, str]:
            tries: list[str] = []

            def follow(report: Report) -> None:
                if report.stage == "search" and report.facts:
                    tries.append(f"{report.facts['size']}: {float(report.facts['drop']):.2f} dB lost")
                job.progress(report.done / report.total, "\n".join([f"{report.stage}…", *tries[-6:]]))

            packed = pack_copy(field, file, goal, entry.data, follow)
            made = Entry(file.stem, packed.field, file, entry.data, cameras=entry.cameras)
            return made, f"{progress.format_bytes(packed.size)}, {packed.found.drop:.2f} dB below the field it was made from"

        self._job = self.window.start(Job("compress", work, lambda job: self._done(entry, *job.result)))

    def _stop(self) -> None:
        if self._job is not None:
            self._job.stop()

    def _done(self, source: Entry, made: Entry, text: str) -> None:
        model = self.model
        set_text(self.state, f"{made.path}\n{text}")
        self.window.say(f"wrote {made.path}: {text}")
        model.add(made)
        if source in model.entries:
            model.activate(model.entries.index(source))
            model.partner_index = model.entries.index(made)
            model.compare("wipe", "field")
        self.window.previews.start(made)
