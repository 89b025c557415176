"""Fields made from an open one beside the window: a student of another family, or the same field in fewer bytes. No GUI."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from .. import kernels
from ..compress.pack import Follow, Packed, PackOptions
from ..compress.run import check_packable, compress_field
from ..compress.search import Goal
from ..datasets.scene import load_scene
from ..distill import DistillOptions, distill_field
from ..distill.agreement import agreement
from ..errors import UserError
from ..representations.field import Field
from ..training import StepStats, Trainer
from .jobs import Job
from .live import Live, still_copy

NEVER = 1e8
"""Seconds between things that are not wanted."""


@dataclass(frozen=True)
class Student:
    """What a conversion ends with."""

    field: Field
    agreement: float
    """PSNR to the teacher on new views, dB."""
    finished: bool
    """False: it was stopped before its time."""


class Conversion:
    """A job that distils ``teacher``, which stays as it is, into a field of ``options.to``; looked into through ``live``.

    :meth:`stop` ends the learning early; the student is then what it has become.
    """

    def __init__(self, teacher: Field, options: DistillOptions, then: Callable[[Job], None] | None = None) -> None:
        self.live = Live()
        self.options = replace(options, checkpoint_seconds=NEVER, view_seconds=0.0)
        self.job = Job(f"convert to {options.to}", lambda job: self._work(job, teacher), then)

    def stop(self) -> None:
        self.live.stop()

    def _work(self, job: Job, teacher: Field) -> Student:
        warm_up(self.options.to, lambda text: job.progress(0.0, text))

        def follow(trainer: Trainer, stats: StepStats) -> None:
            job.share, job.note = stats.progress, stats.stage
            trainer.stop = trainer.stop or job.cancel.is_set

        folder = Path(tempfile.mkdtemp(prefix="fieldmorph-convert-"))
        try:
            made = distill_field(teacher, self.options, folder, callbacks=[self.live, follow])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        job.progress(1.0, "comparing")
        student = still_copy(made.field)
        return Student(student, agreement(student, teacher), made.finished)


def warm_up(family: str, message: Callable[[str], None]) -> None:
    """Load or compile the kernels of a family; the first time on a machine that takes a while, and is said."""
    start = getattr(kernels.ops("cpu"), "warm_up", None)
    if start is not None:
        start([family], background=False, message=message, points=True)


def pack_copy(field: Field, file: Path, goal: Goal, data: Path | None, follow: Follow) -> Packed:
    """Write ``field``, which stays as it is, packed to ``file``.

    The loss is measured on the photographs of ``data`` where that can be read, else against the field itself.

    Raises:
        UserError: the field has edits or no cameras, or the file cannot be written.
    """
    if file.suffix != ".field":
        raise UserError(f"{file}: give the file a name that ends in .field")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{file}: the folder {file.absolute().parent} does not exist")
    check_packable(field)
    scene = None
    if data is not None:
        with suppress(UserError):  # it has moved; the field is its own measure then
            scene = load_scene(data)
    subject = still_copy(field).requires_grad_(True)
    subject.metadata = copy.deepcopy(field.metadata)
    packed = compress_field(subject, file, PackOptions(goal), scene, follow=follow)
    packed.field.requires_grad_(False)
    return packed
