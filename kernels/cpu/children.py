"""Compiles kernels in child processes, which leave them in the cache folder.

Machine code fresh from the compiler and the same code from the cache round differently in places (the linker's
choice among equal functions), so a process that compiles for itself could not repeat another one's run bit for bit.
Children also leave the caller its interpreter lock, and share the work between them.

Programs that start together share it, too: each family's part is compiled by whoever holds its lock, the others wait.
The system takes a lock back from a process that dies, however it dies, and nobody waits for a lock while holding another.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from .cache import ENVIRONMENT, kernel_cache

PROGRAM = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
from fieldmorph.kernels import cpu
cpu.compile_part(*sys.argv[1:])
"""
"""A child ends when its standard input does, which its parent holds: however the parent ends, nobody compiles for nobody.
Ctrl-C is the parent's affair: a terminal sends it to both."""

PATIENCE = 300.0
"""Seconds that other programs are waited for in all: who compiles may also have been stopped."""
_PLACE = hashlib.sha256(str(Path(__file__).parent).encode()).hexdigest()[:12]
"""Where this installation lies."""
_LOOK = 0.2
"""Seconds between two looks at what others have done."""


@dataclass(frozen=True)
class Work:
    """What is compiled as one piece."""

    family: str
    part: str


def compile_in_children(families: Iterable[str], parts: Sequence[str], message: Callable[[str], None] = lambda text: None) -> list[Work]:
    """See to it that the cache holds every kernel of ``families``; one child for each part, all families in it.

    Where no folder can be written, or no child started, nothing happens and the caller compiles for itself.

    Args:
        message: told when other processes are waited for, and what a child failed at.

    Returns:
        What children failed at: the caller compiles it and calls :func:`compiled`, lest every start tries again in vain.
    """
    folder = kernel_cache()
    if folder is None:
        return []
    names = tuple(families)
    wanted = [Work(name, part) for part in parts for name in names if not _mark(folder, Work(name, part)).exists()]
    failed: list[Work] = []
    told, deadline = False, 0.0
    try:
        while wanted:
            with ExitStack() as held:
                ours = [work for work in wanted if _claimed(folder, work, held)]
                failed += _compile(folder, [work for work in ours if not _mark(folder, work).exists()], message)
            wanted = [work for work in wanted if work not in ours and not _mark(folder, work).exists()]
            if not wanted:
                break
            if not told:
                told, deadline = True, time.monotonic() + PATIENCE
                message("waiting for the CPU kernels that another fieldmorph is compiling")
            elif time.monotonic() > deadline:
                message(f"the other fieldmorph has not compiled its CPU kernels in {PATIENCE:.0f} s; compiling them here")
                break
            time.sleep(_LOOK)
    except (OSError, NotImplementedError):  # no process can be started, no lock be had
        pass
    return failed


def compiled(work: Iterable[Work]) -> None:
    """Note that the cache holds these."""
    folder = kernel_cache()
    for item in work:
        if folder is not None:
            _mark(folder, item).touch()


def _claimed(folder: Path, work: Work, held: ExitStack) -> bool:
    """Whether the right to compile ``work`` could be had at once; ``held`` gives it back."""
    lock = FileLock(_file(folder, work, "lock"))
    try:
        held.enter_context(lock.acquire(timeout=0))
    except Timeout:
        return False
    return True


def _compile(folder: Path, work: Sequence[Work], message: Callable[[str], None]) -> list[Work]:
    """Compile ``work``, one child for each part; what children failed at."""
    path = os.pathsep.join(place for place in sys.path if place)  # the package may be found only because it stands there
    environment = {**os.environ, ENVIRONMENT: str(folder.parent), "PYTHONPATH": path}
    children: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
    failed = []
    try:
        for part in dict.fromkeys(item.part for item in work):
            families = [item.family for item in work if item.part == part]
            command = [sys.executable, "-P", "-c", PROGRAM, part, *families]  # -P: the current folder holds no modules
            complaint: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": complaint}
            children[part] = subprocess.Popen(command, env=environment, **streams), complaint  # type: ignore[call-overload]
        for part, (child, complaint) in children.items():
            items = [item for item in work if item.part == part]
            if child.wait() == 0:
                compiled(items)
                continue
            failed += items
            names, reason = ", ".join(item.family for item in items), _reason(child.returncode, complaint)
            message(f"the process that compiled the CPU kernels ({part} of {names}) failed: {reason}; compiling them here")
    finally:
        for child, complaint in children.values():
            if child.poll() is None:
                child.kill()
            assert child.stdin is not None
            child.stdin.close()
            complaint.close()
    return failed


def _reason(code: int, complaint: IO[bytes]) -> str:
    """Why a child ended: the last line it wrote."""
    if code < 0:
        return f"it was ended by signal {-code}"
    complaint.seek(0)
    lines = complaint.read().decode(errors="replace").split("\n")
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), f"exit code {code}")


def _mark(folder: Path, work: Work) -> Path:
    return _file(folder, work, "complete")


def _file(folder: Path, work: Work, ending: str) -> Path:
    """Numba keeps each installation's code apart, so that what one has compiled another has not."""
    return folder / f"{work.family}.{work.part}.{_PLACE}.{ending}"
