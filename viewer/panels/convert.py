"""Another family from the active field: the student appears beside its teacher and learns while one looks."""

from __future__ import annotations

from typing import ClassVar

from ...distill import DistillOptions
from ...representations.field import Field
from ...representations.registry import families
from .. import gui
from ..conversion import Conversion, Student
from ..entries import Entry
from ..jobs import Job
from ..moments import moment
from ..widgets import set_text
from .panel import Panel

SECONDS = 60.0
"""Budget that is offered first."""


class ConvertPanel(Panel):
    title: ClassVar[str] = "Convert"
    always: ClassVar[bool] = True

    def build(self) -> None:
        self.conversion: Conversion | None = None
        self.student: Entry | None = None
        self._teacher: Entry | None = None
        names = [name for name, family in families().items() if not family.field.dynamic]
        start = "vm" if "vm" in names else names[0]
        self.family = self.w.choice("Into", names, start, lambda v: None, "The family of representation that the student will have.")
        self.seconds = self.w.number("Seconds", SECONDS, 1.0, 86400.0, lambda v: None, "How long it may learn.", "%.0f", 0.5)
        self.begin, self.end = self.w.buttons(
            ("Convert", self._start, "Distil the active field; no photographs are needed (PVD-AL)."),
            ("Stop", self._stop, "End it here; what the student has become stays open."),
            primary=True,
        )
        self.state = self.w.note("The field stays; a student learns to look like it.")

    def refresh(self) -> None:
        conversion = self.conversion
        if conversion is None or conversion.job.done:
            return
        live, job = conversion.live, conversion.job
        if not live.step:
            set_text(self.state, job.note or "preparing…")
            return
        psnr = f", {live.psnrs[-1]:.1f} dB on its rays" if live.psnrs and job.note == "rays" else ""
        set_text(self.state, f"{conversion.options.to}: {100.0 * live.progress:.0f} %, stage {job.note}{psnr}")

    def tick(self, now: float) -> None:
        conversion, teacher = self.conversion, self._teacher
        if conversion is None or teacher is None or self.student is not None:
            return
        first = conversion.live.take()
        if first is not None:
            self._show(first, conversion, teacher)

    def _start(self) -> None:
        if self.conversion is not None and not self.conversion.job.done:
            self.window.say("a conversion is under way already; stop it first")
            return
        if self.window.live is not None and not self.window.live_ended():
            self.window.say("the run that is shown must end before another begins")
            return
        self._teacher, self.student = self.model.entry, None
        options = DistillOptions(to=str(gui.get_value(self.family)), seconds=float(gui.get_value(self.seconds)))
        self.conversion = Conversion(moment(self._teacher.field, self.model.time), options)
        self.conversion.job.then = self._done
        self.window.start(self.conversion.job)

    def _stop(self) -> None:
        if self.conversion is not None:
            self.conversion.stop()

    def _show(self, field: Field, conversion: Conversion, teacher: Entry) -> None:
        """The student's first copy: open it beside its teacher."""
        model = self.model
        self.student = Entry(f"{teacher.name} as {conversion.options.to}", field, None, teacher.data, cameras=teacher.cameras, unsaved=True)
        model.add(self.student)
        model.activate(model.entries.index(teacher))
        model.partner_index = model.entries.index(self.student)
        model.compare("side", "field")
        self.window.watch(conversion.live, self.student, lambda: conversion.job.done)

    def _done(self, job: Job) -> None:
        student: Student = job.result
        if self.student is None or self.student not in self.model.entries:
            return
        self.student.field = student.field
        self.model.touch()
        self.window.previews.start(self.student)
        early = "" if student.finished else ", stopped early"
        text = f"{student.field.family}{early}: {student.agreement:.1f} dB to its teacher on new views; save it with Ctrl + S"
        set_text(self.state, text)
        self.window.say(text)
