"""Compiles kernels in child processes, which leave them in the cache folder.

Machine code fresh from the compiler and the same code from the cache round differently in places (the linker's
choice among equal functions), so a process that compiles for itself could not repeat another one's run bit for bit.
Children also leave the caller its interpreter lock, and share the work between them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .cache import ENVIRONMENT, kernel_cache

PROGRAM = "import sys; from fieldmorph.kernels import cpu; cpu.compile_part(*sys.argv[1:])"


def compile_in_children(names: Iterable[str], parts: tuple[str, ...]) -> None:
    """See to it that the cache holds every kernel of the families ``names``; one child for each part, all families in it.

    Where no folder can be written, or no child started, nothing happens and the caller compiles for itself.
    """
    folder = kernel_cache()
    missing = [] if folder is None else [name for name in names if not _mark(folder, name).exists()]
    if folder is None or not missing:
        return
    path = os.pathsep.join(place for place in sys.path if place)  # the package may be found only because it stands there
    environment = {**os.environ, ENVIRONMENT: str(folder.parent), "PYTHONPATH": path}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    children: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts:
            child = subprocess.Popen([sys.executable, "-c", PROGRAM, part, *missing], **quiet)  # type: ignore[call-overload]
            children.append(child)
        ends = [child.wait() for child in children]
        if not any(ends):
            for name in missing:
                _mark(folder, name).touch()
    except OSError:
        return
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()


def _mark(folder: Path, name: str) -> Path:
    return folder / f"{name}.complete"
