"""Flags and checks that several verbs share. No heavy import at the top: help must come at once."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from .. import progress
from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from ..datasets.scene import Scene
    from ..representations.field import Field


def value(metavar: str, default: str = "") -> Any:
    """How help shows a flag that takes a value; ``default`` says what None stands for."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else "")


@dataclass(frozen=True, kw_only=True)
class Talk:
    """How much a verb says."""

    quiet: Annotated[bool, arg(aliases=["-q"])] = False
    """Say nothing but warnings and errors."""
    verbose: Annotated[bool, arg(aliases=["-v"])] = False
    """Say more."""

    def talk(self, *, messages_to_stderr: bool = False) -> None:
        level = progress.QUIET if self.quiet else progress.VERBOSE if self.verbose else progress.NORMAL
        progress.configure(level, messages_to_stderr=messages_to_stderr)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where a verb computes."""

    device: Annotated[str, arg(metavar="D")] = "auto"
    """auto, cpu, cuda, cuda:1, …; auto takes a GPU where PyTorch sees one."""
    kernels: Annotated[str, arg(metavar="K")] = "auto"
    """auto, reference, cpu, cuda or tcnn: how the operations are computed; `fieldmorph info` says what auto means here."""

    def choose_device(self) -> torch.device:
        """The device, with the chosen kernels for it.

        Raises:
            UserError: either cannot be used here.
        """
        return choose(self.device, self.kernels)


def choose(name: str, implementation: str) -> torch.device:
    """The device of a name, current where it is a GPU, with the kernels that were chosen for it.

    Raises:
        UserError: either cannot be used here, or they do not go together.
    """
    from ..kernels import make_current, set_kernels
    from ..training.run import resolve_device

    device = resolve_device(name)
    if device.type == "cuda":
        make_current(device)  # whose kernels are asked about
    set_kernels(implementation)
    if implementation in ("cuda", "tcnn") and device.type != "cuda":
        raise UserError(f"--kernels {implementation} compute on a GPU, and --device {name} is none; add --device cuda")
    if implementation == "cpu" and device.type != "cpu":
        raise UserError(f"--kernels cpu compute on the CPU, and --device {name} is another; add --device cpu")
    return device


class WarmUp:
    """Loads or compiles, in the background, the kernels a family or a field needs; ``wait`` before their time is measured.

    ``points``: what a distillation needs, too.
    """

    def __init__(self, what: str | Field, device: torch.device, *, points: bool = False) -> None:
        from ..kernels import ops

        kind = what if isinstance(what, str) else what.lower() or what.family

        start = getattr(ops(device), "warm_up", None)  # only compiled kernels have one
        self._thread = None if start is None else start([kind], background=True, message=progress.say, points=points)

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()


@dataclass(frozen=True, kw_only=True)
class FamilyOptions:
    """Options of the representation, as text."""

    set_: Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE"), UseAppendAction] = ()
    """An option of the field's family, for example levels=8; `fieldmorph info --family NAME` lists them."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """Flags of verbs that learn into a run folder."""

    out: Annotated[Path, value("RUN")]
    """Run folder to write to."""
    steps: Annotated[int | None, value("N")] = None
    """Budget in optimisation steps, over the whole run. The same seed then gives the same field bit for bit on a CPU."""
    seconds: Annotated[float | None, value("S", "300 without --steps")] = None
    """Budget in seconds, over the whole run; saving and evaluating do not count."""
    resume: bool = False
    """Continue the run in --out from its newest checkpoint, with its own settings."""
    overwrite: bool = False
    """Replace the run that --out holds."""
    seed: Annotated[int | None, value("K", "0")] = None
    """Seed of all that is random."""
    rate: Annotated[float | None, value("R", "the family's own")] = None
    """Base learning rate."""
    samples: Annotated[int | None, value("N", "the family's own")] = None
    """Field evaluations per step at the start, to which the batch of rays adapts; fewer need less memory."""
    checkpoint_seconds: Annotated[float | None, value("S", "60")] = None
    """Save a checkpoint whenever so many seconds have passed."""
    checkpoint_steps: Annotated[int | None, value("N")] = None
    """Save a checkpoint every so many steps, too."""

    def claim(self) -> None:
        """Refuse two budgets and a folder that must not be written to.

        Raises:
            UserError: either.
        """
        if self.steps is not None and self.seconds is not None:
            raise UserError("give the budget as --steps or as --seconds, not both")
        claim_folder(self.out, overwrite=self.overwrite, resume=self.resume)


def parse_settings(pairs: Sequence[str], options_type: Any) -> dict[str, str]:
    """``--set key=value`` texts by key; the family converts the values.

    Raises:
        UserError: a pair without "=", a key given twice, or a key that the family does not know.
    """
    known = [field.name for field in dataclasses.fields(options_type)]
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UserError(f"--set {pair}: write KEY=VALUE, for example --set {known[0]}=…")
        if key not in known:
            raise UserError(f"--set {pair}: there is no option {key!r}; {did_you_mean(key, known)}")
        if key in settings:
            raise UserError(f"--set {key}=… is given twice")
        settings[key] = value.strip()
    return settings


def parse_size(text: str) -> tuple[int, int]:
    """``WxH`` to (width, height).

    Raises:
        UserError: not two whole numbers from 1 to 16384.
    """
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= width <= 16384 and 1 <= height <= 16384):
        raise UserError(f"--size {text}: write WIDTHxHEIGHT in pixels, each 1 to 16384, for example 800x600")
    return width, height


def claim_folder(out: Path, *, overwrite: bool = False, resume: bool | None = None) -> None:
    """Make sure that ``out`` is a folder that may be written to, before anything else is done; nothing is touched yet.

    ``resume`` is None for a verb that cannot continue what it finds.

    Raises:
        UserError: it is a file, holds anything and neither flag is given, or cannot be written.
    """
    try:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file; name a folder")
        if not overwrite and not resume and out.is_dir() and any(out.iterdir()):
            other = "replace what is in it with --overwrite" + ("" if resume is None else " or continue it with --resume")
            raise UserError(f"--out {out} is not empty; name another folder, or {other}")
        there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{there} does not allow it")
    except OSError as error:
        raise _unwritable(out, error) from error


def start_folder(out: Path, ours: Iterable[str] = ()) -> None:
    """Make the folder, and remove what earlier runs of the verb left in it.

    ``ours`` are the names (patterns) the verb writes, given with --overwrite. Nothing else is removed, so that a
    mistyped --out costs nobody his files.

    Raises:
        UserError: it cannot be made or written, or something cannot be removed.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for pattern in ours:
            for path in out.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        _probe(out)
    except OSError as error:
        raise _unwritable(out, error) from error


def _probe(folder: Path) -> None:
    """Raises OSError where no file can be made in a folder."""
    file = folder / f".writable-{os.getpid()}"
    file.touch()
    file.unlink()


def _unwritable(out: Path, error: OSError) -> UserError:
    return UserError(f"--out {out} cannot be written ({error.strerror or error}); name a folder of yours")


def check_file_target(path: Path, flag: str) -> None:
    """Refuse what cannot become a file, before work is spent on its contents.

    Raises:
        UserError: it is a folder, or its folder does not exist.
    """
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{flag} {path}: the folder {path.parent} does not exist; make it first")


def claim_file(out: Path, *, overwrite: bool) -> None:
    """Make sure that a field file can be written to ``out``, before anything else is done; nothing is touched yet.

    Raises:
        UserError: it exists and may not be replaced, is a folder, or its folder does not exist or cannot be written.
    """
    check_file_target(out, "--out")
    if out.exists() and not overwrite:
        raise UserError(f"--out {out} exists; name another file, or replace it with --overwrite")
    try:
        _probe(out.absolute().parent)
    except OSError as error:
        raise _unwritable(out, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: the folder does not exist or cannot be written, or the disk is full.
    """
    from ..representations.container import atomic_file

    with atomic_file(path) as file:
        file.write(text.encode())


def open_scene(path: Path) -> Scene:
    """Read a scene and pass on what its reader warns about.

    Raises:
        UserError: there is none, or it is broken.
    """
    from ..datasets.scene import load_scene

    scene = load_scene(path)
    for warning in scene.warnings:
        progress.warn(warning)
    return scene


def describe_scene(scene: Scene) -> str:
    """``100 train, 25 test images, 400x400, with alpha``."""
    first = scene.cameras[0]
    same = all((c.width, c.height) == (first.width, first.height) for c in scene.cameras)
    parts = [
        ", ".join(f"{len(indices)} {name}" for name, indices in scene.split.items() if indices) + " images",
        f"{first.width}x{first.height}" if same else "of several sizes",
        "with alpha" if scene.has_alpha else "opaque",
    ]
    return ", ".join([*parts, "unbounded"] if scene.space.unbounded else parts)
