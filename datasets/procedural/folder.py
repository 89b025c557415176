"""A scene's folder appears complete or not at all, and replaces nothing but a scene."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from ...errors import UserError


@contextmanager
def scene_folder(out: Path | str, overwrite: bool, ours: Sequence[str], sign: str | None = None) -> Iterator[tuple[Path, Path]]:
    """(folder to write into, where it will be once the block has ended without an error).

    Args:
        overwrite: replace what ``out`` holds, if that is a scene.
        ours: names (patterns) of what such a scene consists of; a folder that holds anything else is not replaced.
        sign: a file without which it is no such scene.

    Raises:
        UserError: ``out`` is a file, holds something that may not be replaced, or cannot be written.
    """
    folder = Path(out).expanduser().absolute()
    _check(folder, overwrite, ours, sign)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        yield part, folder
        _replace(part, folder)
    except OSError as error:
        raise UserError(f"{folder}: the scene could not be written ({error.strerror}); free disk space or choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check(folder: Path, overwrite: bool, ours: Sequence[str], sign: str | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder for the scene")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{folder}: the folder is not empty; choose another, or replace the scene in it with --overwrite")
    foreign = sorted(entry.name for entry in folder.iterdir() if not any(fnmatch(entry.name, name) for name in ours))
    if foreign:
        raise UserError(
            f"{folder}: is not empty and holds other things than such a scene ({foreign[0]}), which --overwrite would delete; "
            "choose another folder"
        )
    if sign is not None and not (folder / sign).is_file():
        raise UserError(f"{folder}: is not empty and holds no {sign}, so --overwrite does not replace it; choose another folder")


def _replace(part: Path, folder: Path) -> None:
    """Put the finished folder in place; an old scene is moved aside first and deleted last."""
    os.chmod(part, 0o777 & ~_umask())
    if not folder.exists():
        os.rename(part, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.rename(folder, old / "scene")
    try:
        os.rename(part, folder)
    except OSError:
        os.rename(old / "scene", folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
