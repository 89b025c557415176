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

PROGRAM = """
import os, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
from fieldmorph.kernels import cpu
cpu.compile_part(*sys.argv[1:])
"""
"""A child ends when its standard input does, which its parent holds: however the parent ends, nobody compiles for nobody."""


def compile_in_children(names: Iterable[str], parts: tuple[str, ...]) -> None:
    """See to it that the cache holds every kernel of the families ``names``; one child for each part, all families in it.

    Where no folder can be written, or no child started, nothing happens and the caller compiles for itself.
    """
    folder = kernel_cache()
    if folder is None:
        return
    names = tuple(names)
    missing = {part: [name for name in names if not _mark(folder, name, part).exists()] for part in parts}
    path = os.pathsep.join(place for place in sys.path if place)  # the package may be found only because it stands there
    environment = {**os.environ, ENVIRONMENT: str(folder.parent), "PYTHONPATH": path}
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for part in parts:
            if missing[part]:
                command = [sys.executable, "-P", "-c", PROGRAM, part, *missing[part]]  # -P: the current folder holds no modules
                children[part] = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        for part, child in children.items():
            if child.wait() == 0:
                for name in missing[part]:
                    _mark(folder, name, part).touch()
    except OSError:
        return
    finally:
        for child in children.values():
            if child.poll() is None:
                child.kill()
            assert child.stdin is not None
            child.stdin.close()


def _mark(folder: Path, name: str, part: str) -> Path:
    return folder / f"{name}.{part}.complete"
