"""The frames of one ``transforms*.json``: pictures found on disk, poses checked, cameras built."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..render.camera import Camera
from .fields import LENS, notices, number, refuse_lenses, short
from .images import ImageFacts, find_image, probe_image, run_parallel
from .intrinsics import read_intrinsics
from .json_text import read_json

RIGID = 5e-3
"""Largest deviation of a rotation's columns from orthonormal; files round to as few as four digits."""


@dataclass(frozen=True)
class Frame:
    """One picture with its camera."""

    file: Path
    written: str
    """``file_path`` as the file has it."""
    camera: Camera
    alpha: bool
    """Whether the picture's header promises an alpha channel."""
    keep_masks: tuple[Path, ...] = ()
    """Black pixels of these are to be ignored (nerfstudio)."""
    drop_masks: tuple[Path, ...] = ()
    """Any other pixels of these are to be ignored (instant-ngp's dynamic_mask_*.png)."""


@dataclass
class Document:
    """A parsed file; frames are in natural order of ``file_path``."""

    path: Path
    top: dict[str, Any]
    frames: list[Frame]
    warnings: list[str] = field(default_factory=list)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key by which r_2 comes before r_10."""
    parts = re.split(r"([0-9]+)", text.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def read_document(path: Path) -> Document:
    """Read and check a file.

    Raises:
        UserError: anything that would make a wrong picture, naming the file and the frame.
    """
    top = read_json(path)
    raw = _raw_frames(top, path)
    refuse_lenses(top, raw, str(path))
    warnings = notices(top, raw, path.name)
    raw.sort(key=lambda frame: natural_key(frame["file_path"]))
    raw = _discard(top, raw, path, warnings)
    files = [find_image(path.parent / _posix(frame["file_path"])) for frame in raw]
    missing = [frame["file_path"] for frame, file in zip(raw, files, strict=True) if file is None]
    if len(missing) == len(raw):
        folder = (path.parent / _posix(missing[0])).parent
        raise UserError(f"{path}: none of its {len(raw)} pictures exists (the first is {missing[0]!r}); put the pictures into {folder}")
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its {len(raw)} pictures are missing: {_some(missing)}; "
            "put them back, or remove their frames from the file"
        )
    pairs = [(frame, file) for frame, file in zip(raw, files, strict=True) if file is not None]
    facts: list[ImageFacts] = [ImageFacts(1, 1, False)] * len(pairs)

    def probe(k: int) -> None:
        facts[k] = probe_image(pairs[k][1])

    run_parallel(probe, len(pairs))
    _check_sizes(top, pairs, facts, path)
    _warn_motion(raw, path, warnings)
    listing: dict[Path, set[str]] = {}
    frames = [_frame(path, top, frame, file, fact, listing) for (frame, file), fact in zip(pairs, facts, strict=True)]
    _warn_masks(frames, path, warnings, listing)
    return Document(path, top, frames, warnings)


def _raw_frames(top: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    raw = top.get("frames")
    if not isinstance(raw, list):
        raise UserError(f"{path}: there is no list of 'frames'; give a transforms.json as Blender, instant-ngp or nerfstudio write it")
    if not raw:
        raise UserError(f"{path}: the list of frames is empty; add at least one picture with its pose")
    for k, frame in enumerate(raw):
        if not isinstance(frame, dict):
            raise UserError(f"{path}: frame {k} must be an object, got {short(frame)}")
        name = frame.get("file_path")
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise UserError(f"{path}: frame {k} has no file_path; name its picture")
    return list(raw)


def _posix(name: str) -> str:
    return name.replace("\\", "/")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _discard(top: Mapping[str, Any], raw: list[dict[str, Any]], path: Path, warnings: list[str]) -> list[dict[str, Any]]:
    """What the file itself asks to leave out: frames after the n-th, and blurred ones."""
    count = number(top, "n_frames", str(path))
    if count is not None and 0 < count < len(raw):
        warnings.append(f"{path.name}: n_frames keeps the first {int(count)} of {len(raw)} frames")
        raw = raw[: int(count)]
    threshold = number(top, "sharpness_discard_threshold", str(path)) or 0.0
    sharpness = [number(frame, "sharpness", f"{path}, frame {frame['file_path']!r}") for frame in raw]
    if threshold <= 0.0 or None in sharpness:
        return raw
    values = np.array([value for value in sharpness if value is not None])
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for k, frame in enumerate(raw):
        around = values[max(k - 3, 0) : k + 4].mean()
        (kept if values[k] >= threshold * around else dropped).append(frame)
    if not kept:
        raise UserError(f"{path}: sharpness_discard_threshold {threshold:g} leaves no frame; lower it")
    if dropped:
        names = [frame["file_path"] for frame in dropped]
        warnings.append(f"{path.name}: sharpness_discard_threshold left out {len(dropped)} frames: {_some(names)}")
    return kept


def _check_sizes(top: Mapping[str, Any], pairs: Sequence[tuple[dict[str, Any], Path]], facts: Sequence[ImageFacts], path: Path) -> None:
    """Pictures that share the file's intrinsics must share their size; a single odd one is a mistake."""
    shared = [k for k, (frame, _) in enumerate(pairs) if not LENS & frame.keys()]
    if "w" in top and "h" in top:
        return  # compared one by one with what the file says
    sizes = [(facts[k].width, facts[k].height) for k in shared]
    if len(set(sizes)) > 1:
        common = max(set(sizes), key=sizes.count)
        odd = shared[next(i for i, size in enumerate(sizes) if size != common)]
        raise UserError(
            f"{pairs[odd][1]}: the picture is {facts[odd].width}x{facts[odd].height} but the others of {path.name} are "
            f"{common[0]}x{common[1]}; give all one size, or each frame its own intrinsics"
        )


def _frame(
    path: Path, top: Mapping[str, Any], raw: Mapping[str, Any], file: Path, fact: ImageFacts, listing: dict[Path, set[str]]
) -> Frame:
    source = f"{path}, frame {raw['file_path']!r}"
    lens = read_intrinsics(top, raw, fact.width, fact.height, source)
    time = number(raw, "time", source)
    if time is not None and not 0.0 <= time <= 1.0:
        raise UserError(f"{source}: 'time' must lie between 0 and 1, got {time:g}; divide by the capture's length")
    pose = _pose(raw, source)
    name = _posix(raw["file_path"])
    camera = Camera(fact.width, fact.height, lens.fx, lens.fy, lens.cx, lens.cy, pose, lens.distortion, time, name=name.removeprefix("./"))
    keep: tuple[Path, ...] = ()
    if raw.get("mask_path") is not None:
        mask = raw["mask_path"]
        found = find_image(path.parent / _posix(mask)) if isinstance(mask, str) and mask and "\0" not in mask else None
        if found is None:
            raise UserError(f"{source}: its mask {short(mask)} does not exist; restore it or remove mask_path")
        keep = (found,)
    if file.parent not in listing:
        listing[file.parent] = {entry.name for entry in file.parent.iterdir()}
    moving = f"dynamic_mask_{file.stem}.png"
    drop = (file.parent / moving,) if moving in listing[file.parent] else ()
    return Frame(file, raw["file_path"], camera, fact.alpha, keep, drop)


def _pose(raw: Mapping[str, Any], source: str) -> NDArray[np.float64]:
    """Camera-to-world [3, 4] with an exactly orthonormal rotation; a moving camera's is halfway through the exposure."""
    if raw.get("transform_matrix") is not None:
        return rigid(raw["transform_matrix"], "transform_matrix", source)
    if raw.get("transform_matrix_start") is None:
        raise UserError(f"{source}: there is no transform_matrix; add the camera-to-world matrix")
    start = rigid(raw["transform_matrix_start"], "transform_matrix_start", source)
    if raw.get("transform_matrix_end") is None:
        return start
    end = rigid(raw["transform_matrix_end"], "transform_matrix_end", source)
    return np.concatenate([_nearest_rotation(start[:, :3] + end[:, :3]), 0.5 * (start[:, 3:] + end[:, 3:])], 1)


def rigid(value: Any, key: str, source: str) -> NDArray[np.float64]:
    """A 3x4 or 4x4 nested list as a rigid camera-to-world matrix [3, 4].

    Raises:
        UserError: wrong shape, NaN or infinity, scaled, sheared or mirrored axes, a projective last row.
    """
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise UserError(f"{source}: {key} must be 4 rows of 4 numbers, got {short(value)}")
    if not (np.isfinite(matrix).all() and np.abs(matrix).max() < 1e9):
        raise UserError(f"{source}: {key} holds NaN, infinity or a huge number; estimate the pose again or remove the frame")
    if len(matrix) == 4 and np.abs(matrix[3] - (0.0, 0.0, 0.0, 1.0)).max() > 1e-6:
        raise UserError(f"{source}: the last row of {key} must be 0 0 0 1, got {short(matrix[3].tolist())}; store matrices row by row")
    axes = matrix[:3, :3]
    if np.abs(axes.T @ axes - np.eye(3)).max() > RIGID:
        lengths = ", ".join(f"{length:.4g}" for length in np.linalg.norm(axes, axis=0))
        raise UserError(
            f"{source}: {key} is not a rigid motion (its axes have lengths {lengths}, and must be orthonormal); remove scale and shear"
        )
    if np.linalg.det(axes) < 0.0:
        raise UserError(f"{source}: {key} mirrors the camera (left-handed axes); negate one of its first three columns")
    return np.concatenate([_nearest_rotation(axes), matrix[:3, 3:]], 1)


def _nearest_rotation(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polar factor; leaves an already orthonormal matrix as it is, to the last bit."""
    if np.abs(axes.T @ axes - np.eye(3)).max() < 1e-12:
        return axes
    u, _, vt = np.linalg.svd(axes)
    rotation: NDArray[np.float64] = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return rotation


def _warn_motion(raw: Sequence[Mapping[str, Any]], path: Path, warnings: list[str]) -> None:
    if any(frame.get("transform_matrix_start") is not None or frame.get("transform_matrix_end") is not None for frame in raw):
        warnings.append(
            f"{path.name}: camera motion during exposure (transform_matrix_start, _end) is not modelled; the middle pose is used"
        )


def _warn_masks(frames: Sequence[Frame], path: Path, warnings: list[str], listing: Mapping[Path, set[str]]) -> None:
    masked = sum(bool(frame.keep_masks) for frame in frames)
    if 0 < masked < len(frames):
        warnings.append(f"{path.name}: only {masked} of {len(frames)} frames have a mask_path; the others are used whole")
    sides = [f.file.name for f in frames if any(f"{f.file.name}.alpha.{e}" in listing[f.file.parent] for e in ("png", "jpg", "exr"))]
    if sides:
        warnings.append(
            f"{path.name}: separate alpha pictures ({_some(sides)} with .alpha. beside it) are not read; store alpha in the PNG"
        )
