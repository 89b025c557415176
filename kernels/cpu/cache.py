"""Where compiled kernels are kept between processes.

Numba notices only changes of a function's own file, so the folder's name carries a
hash of all kernel sources, Numba's version and the CPU's features: a stale entry can
never be read.  ``FIELDMORPH_CACHE`` names another folder; where none can be written, a
temporary one is used (per user), and failing that nothing is cached.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import platformdirs

ENVIRONMENT = "FIELDMORPH_CACHE"
_COMPILED = (
    *(b"\n@device", b"\n@exact", b"\n@kernel", b"@intrinsic", b"\n@overload", b"NamedTuple"),
    *(b"intrinsic(", b"numba.njit", b"JITCodeLibrary"),
)


def user_cache() -> Path:
    """The user's cache folder for this program, by the platform's convention; not created here."""
    chosen = os.environ.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("fieldmorph", appauthor=False)


def source_key() -> str:
    """Hash of everything a compiled kernel depends on: every module with compiled code, Numba, Python, the CPU."""
    import llvmlite.binding as llvm
    import numba

    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if any(mark in source for mark in _COMPILED):
            digest.update(path.name.encode() + b"\0" + source)
    digest.update(
        f"{numba.__version__} {sys.version_info[:2]} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}".encode()
    )
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@cache
def kernel_cache() -> Path | None:
    """A writable folder for this version's compiled kernels, or None with one warning."""
    key = f"kernels-{source_key()}"
    try:
        first: Path | None = user_cache() / key
    except RuntimeError:  # no home folder at all
        first = None
    if first is not None and _writable(first):
        return first
    try:
        owner = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
        second = Path(tempfile.gettempdir()) / f"fieldmorph-{owner}" / key
        second.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Machine code is loaded from here: somebody else's folder must not be trusted.
        if (not hasattr(os, "getuid") or second.parent.stat().st_uid == os.getuid()) and _writable(second):
            return second
    except (OSError, KeyError):
        pass
    warnings.warn(
        f"compiled kernels cannot be kept: {first or 'the user cache folder'} is not writable; set {ENVIRONMENT} to a folder that is",
        RuntimeWarning,
        stacklevel=2,
    )
    return None
