"""``transforms.json`` as instant-ngp (colmap2nerf) and nerfstudio (ns-process-data) write it.

Fields: :mod:`.fields`. The world is the file's own: nothing is re-oriented, centred or scaled.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from .assemble import assemble
from .fields import short
from .format import Format
from .frames import Document, Frame, read_document
from .scene import Scene
from .splits import hold_out

SPLITS = ("train", "val", "test")


def _file(path: Path) -> Path:
    return path / "transforms.json" if path.is_dir() else path


def _sniff(path: Path) -> bool:
    file = _file(path)
    return file.suffix.lower() == ".json" and file.is_file()


def read_transforms(path: Path, holdout: int) -> Scene:
    """Read ``transforms.json`` in the folder ``path``, or the JSON file ``path`` itself.

    The split is the file's (``train_filenames`` ...), else every ``holdout``-th picture in natural
    order of ``file_path`` tests.

    Raises:
        UserError: see :func:`.frames.read_document`; a split that names unknown pictures.
    """
    file = _file(path)
    document = read_document(file)
    split = _named_split(document)
    if split is None:
        split = hold_out(len(document.frames), holdout)
    folder = file.parent
    name = folder.name if file.name == "transforms.json" else f"{folder.name}/{file.stem}"
    points = _points_file(document)
    scene = assemble(name, path, FORMAT.name, document.frames, split, document.top, str(file), document.warnings)
    return replace(scene, points_file=points)


def _points_file(document: Document) -> Path | None:
    """The PLY that nerfstudio's ``ply_file_path`` names, relative to the file; its points are in the world of the matrices,
    ``applied_transform`` included, as those are (nerfstudio reads them so). What is missing costs a warning: training needs no points.

    Raises:
        UserError: the field is no path.
    """
    named = document.top.get("ply_file_path")
    if named is None:
        return None
    if not isinstance(named, str) or not named or "\0" in named:
        raise UserError(f"{document.path}: 'ply_file_path' must be a path, got {short(named)}")
    file = document.path.parent / named.replace("\\", "/")
    try:
        there = file.is_file()
    except OSError:  # no name a file system would take
        there = False
    if not there:
        document.warnings.append(f"{document.path.name}: ply_file_path names {named}, which is not there; no sparse points are shown")
        return None
    return file


def _named_split(document: Document) -> dict[str, list[int]] | None:
    """The split the file names, or None. Frames named nowhere test, if no test frames are named."""
    if not any(document.top.get(f"{split}_filenames") is not None for split in SPLITS):
        return None
    index = _index(document.frames)
    split: dict[str, list[int]] = {}
    for name in SPLITS:
        listed = document.top.get(f"{name}_filenames")
        if listed is None:
            listed = []
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise UserError(f"{document.path}: '{name}_filenames' must be a list of names, got {short(listed)}")
        split[name] = []
        unknown = []
        for item in listed:
            found = index.get(_normal(item))
            if found is None:
                unknown.append(item)
            else:
                split[name].append(found)
        if unknown and not split[name]:
            raise UserError(
                f"{document.path}: '{name}_filenames' names pictures that are not in frames ({short(unknown[0])}); correct the list"
            )
        if unknown:
            document.warnings.append(f"{document.path.name}: {name}_filenames names {len(unknown)} pictures that are not in frames")
        split[name] = sorted(set(split[name]))
    named = {i for indices in split.values() for i in indices}
    rest = [i for i in range(len(document.frames)) if i not in named]
    if document.top.get("train_filenames") is None:
        split["train"] = rest
    elif document.top.get("test_filenames") is None and rest:
        split["test"] = rest
    elif rest:
        document.warnings.append(f"{document.path.name}: {len(rest)} frames are in no split and were not used")
    return split


def _normal(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _index(frames: Sequence[Frame]) -> dict[str, int]:
    """Frame by its ``file_path`` as written, and with the extension the file turned out to have."""
    index: dict[str, int] = {}
    for k, frame in enumerate(frames):
        written = _normal(frame.written)
        index.setdefault(written, k)
        index.setdefault(posixpath.join(posixpath.dirname(written), frame.file.name), k)
    return index


FORMAT = Format("transforms", "a folder with transforms.json, or such a file", _sniff, read_transforms)
