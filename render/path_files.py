"""Camera paths as JSON: our own format, read and written; nerfstudio's and instant-ngp's, read.

Our format: ``{"format": "fieldmorph camera path", "version": 1, "fps", "loop"}`` and either ``"cameras"``, one
:meth:`Camera.to_dict` per frame, or ``"keyframes"`` ``[{"camera_to_world", "fov", "time"}]`` with ``"seconds"``,
``"width"`` and ``"height"``, from which frames are drawn at constant speed. Poses are camera-to-world [3, 4],
OpenGL axes, in the world of the training cameras; fov is vertical, in degrees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..representations.container import atomic_file
from .camera import Camera
from .distortion import Distortion
from .paths import CameraPath
from .splines import Keyframe, Keyframes, matrix_from_quaternion

__all__ = ["read_path", "write_path"]

Array = NDArray[np.float64]

_FORMAT, _VERSION = "fieldmorph camera path", 1
_MOST_FRAMES = 1_000_000
_MOST_BYTES = 1 << 30


def write_path(path: str | Path, film: CameraPath) -> None:
    """Write our own format: keyframes where the path has them, else every frame.

    Raises:
        UserError: the file cannot be written.
    """
    content: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, "fps": film.fps, "loop": film.loop}
    if film.keyframes is not None:
        keys = film.keyframes
        content.update(seconds=keys.seconds, width=keys.width, height=keys.height, loop=keys.loop)
        content["keyframes"] = [
            {"camera_to_world": key.camera_to_world.tolist(), "fov": key.fov, **({} if key.time is None else {"time": key.time})}
            for key in keys.frames
        ]
    else:
        content["cameras"] = [camera.to_dict() for camera in film.cameras]
    with atomic_file(Path(path)) as file:
        file.write(json.dumps(content, indent=1).encode())


def read_path(
    path: str | Path,
    *,
    ngp_scale: float = 0.33,
    ngp_offset: Sequence[float] = (0.5, 0.5, 0.5),
    size: tuple[int, int] | None = None,
) -> CameraPath:
    """Read a camera path of ours, of nerfstudio (``camera_path.json``) or of instant-ngp (saved path or export).

    Args:
        ngp_scale, ngp_offset: how instant-ngp placed the scene in its unit cube: ``scale`` and ``offset`` of the
            transforms.json it was trained on (these are its defaults).
        size: (width, height) of the pictures, where the file does not say (instant-ngp's saved paths: default 800x600).

    Raises:
        UserError: the file cannot be read, is no camera path, or holds values no camera can have; says which.
    """
    path = Path(path)
    content = _load(path)
    reader: Callable[[], CameraPath]
    if content.get("format") == _FORMAT:
        reader = lambda: _own(path, content)  # noqa: E731
    elif "camera_path" in content:
        reader = lambda: _nerfstudio(path, content)  # noqa: E731
    elif isinstance(content.get("path"), list):
        reader = lambda: _ngp_path(content, ngp_scale, ngp_offset, size)  # noqa: E731
    elif isinstance(content.get("cameras"), list) and "resolution" in content:
        reader = lambda: _ngp_export(content, ngp_scale, ngp_offset)  # noqa: E731
    else:
        raise UserError(
            f"{path}: this is no camera path; expected one of ours (it says {_FORMAT!r} under 'format'), "
            "nerfstudio's ('camera_path') or instant-ngp's ('path', or 'cameras' with 'resolution')"
        )
    try:
        film = reader()
    except KeyError as error:
        raise UserError(f"{path}: the camera path lacks {error.args[0]!r}; export it again") from error
    except (TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: the camera path holds a value no camera can have ({error}); export it again") from error
    if not film.cameras:
        raise UserError(f"{path}: the camera path has no frames; add keyframes and export it again")
    if len(film.cameras) > _MOST_FRAMES:
        raise UserError(f"{path}: the camera path has {len(film.cameras)} frames, allowed are {_MOST_FRAMES}")
    return film if size is None else film.fitted(*size)


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: a camera path of more than 1 GiB is not read; was another file meant?")
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name a camera path file") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is no JSON file ({error}); name a camera path file") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: this is no camera path, its outermost value is no object; name a camera path file")
    return content


def _own(path: Path, content: dict[str, Any]) -> CameraPath:
    if int(content["version"]) > _VERSION:
        raise UserError(f"{path}: written by a newer version (format {content['version']}, this one reads {_VERSION}); update fieldmorph")
    fps, loop = _rate(content["fps"]), bool(content.get("loop", False))
    if "keyframes" not in content:
        for entry in content["cameras"]:
            _pose(entry["camera_to_world"])
        return CameraPath(tuple(Camera.from_dict(entry) for entry in content["cameras"]), fps, loop)
    keys = tuple(
        Keyframe(_pose(key["camera_to_world"]), _fov(key["fov"]), None if key.get("time") is None else float(key["time"]))
        for key in content["keyframes"]
    )
    return _drawn(Keyframes(keys, _seconds(content["seconds"], fps), int(content["width"]), int(content["height"]), loop), fps)


def _nerfstudio(path: Path, content: dict[str, Any]) -> CameraPath:
    kind = content.get("camera_type", "perspective")
    lenses: dict[str, Distortion | None] = {"perspective": None, "fisheye": Distortion("fisheye", (0.0,) * 4)}
    if kind not in lenses:
        raise UserError(f"{path}: cameras of type {kind!r} cannot be rendered; export the path as perspective or fisheye")
    width, height, notes = int(content["render_width"]), int(content["render_height"]), []
    frames = content["camera_path"]
    timed = all("render_time" in frame for frame in frames)
    to_trained, scale = np.eye(4), 1.0
    side = path.with_name("dataparser_transforms.json")
    if side.is_file():
        trained = _load(side)
        to_trained[:3] = np.asarray(trained["transform"], np.float64)[:3]
        scale = _positive(trained["scale"])
        notes.append(f"poses were taken back to the photographs' coordinates by {side.name}")
    back = np.linalg.inv(to_trained)
    cameras = []
    for index, frame in enumerate(frames):
        pose: Array = np.asarray(frame["camera_to_world"], np.float64).reshape(4, 4)[:3].copy()
        pose[:, 3] /= scale
        pose[:] = back[:3] @ np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]])
        time = float(frame["render_time"]) if timed else None
        camera = Camera.perspective(width, height, _fov(frame["fov"]), _pose(pose), time, f"{index:05d}")
        cameras.append(replace(camera, distortion=lenses[kind]))
    if content.get("crop"):
        notes.append("its crop is not used")
    fps = _rate(content.get("fps", 30.0))
    return CameraPath(tuple(cameras), fps, bool(content.get("is_cycle", False)), notes=tuple(notes))


def _ngp_path(content: dict[str, Any], scale: float, offset: Sequence[float], size: tuple[int, int] | None) -> CameraPath:
    keys = []
    for entry in content["path"]:
        x, y, z, w = (float(v) for v in entry["R"])
        if not math.isfinite(norm := math.hypot(x, y, z, w)) or norm == 0.0:
            raise ValueError(f"the quaternion {entry['R']}")
        pose = np.concatenate([matrix_from_quaternion((w, x, y, z)), np.asarray(entry["T"], np.float64).reshape(3, 1)], -1)
        keys.append(Keyframe(_pose(_from_ngp(pose, scale, offset)), _fov(entry["fov"])))
    fps = 30.0
    width, height = size or (800, 600)
    seconds = _seconds(content.get("duration_seconds") or 5.0, fps)
    notes = ["instant-ngp's time stamps, apertures and focus distances are not used: speed is constant, everything is sharp"]
    film = _drawn(Keyframes(tuple(keys), seconds, width, height, bool(content.get("loop", False))), fps)
    return CameraPath(film.cameras, fps, film.loop, film.keyframes, tuple(notes))


def _ngp_export(content: dict[str, Any], scale: float, offset: Sequence[float]) -> CameraPath:
    width, height = (int(v) for v in content["resolution"])
    fov = 50.625
    cameras = [
        Camera.perspective(
            width, height, fov, _pose(_from_ngp(np.asarray(entry["start"], np.float64)[:3], scale, offset)), name=f"{index:05d}"
        )
        for index, entry in enumerate(content["cameras"])
    ]
    notes = (f"instant-ngp's export holds no field of view, its default of {fov} degrees is used", "poses are taken as camera to world")
    return CameraPath(tuple(cameras), _rate(content.get("fps", 30.0)), notes=notes)


def _from_ngp(pose: Array, scale: float, offset: Sequence[float]) -> Array:
    """instant-ngp's camera-to-world (axes right, down, forward; cycled world in its unit cube) to that of transforms.json."""
    pose = pose[[2, 0, 1]] * (1.0, -1.0, -1.0, 1.0)
    pose[:, 3] = (pose[:, 3] - np.asarray(offset, np.float64)) / scale
    return pose


def _drawn(keys: Keyframes, fps: float) -> CameraPath:
    return CameraPath(tuple(keys.sample(fps)), fps, keys.loop, keys)


def _pose(value: Any) -> Array:
    pose = np.asarray(value, np.float64)
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
        raise ValueError(f"a pose needs 3 rows of 4 finite numbers, got shape {list(pose.shape)}")
    pose = pose[:3].copy()
    if np.abs(pose[:, :3].T @ pose[:, :3] - np.eye(3)).max() > 1e-2 or np.linalg.det(pose[:, :3]) < 0.0:
        raise ValueError("a pose whose axes are not at right angles and of unit length")
    # Numbers printed with few digits are not quite a rotation: take the nearest one.
    u, _, v = np.linalg.svd(pose[:, :3])
    pose[:, :3] = u @ v
    return pose


def _fov(value: Any) -> float:
    fov = float(value)
    if not 0.0 < fov < 180.0:
        raise ValueError(f"a field of view of {fov} degrees")
    return fov


def _rate(value: Any) -> float:
    rate = float(value)
    if not 0.0 < rate <= 1000.0:
        raise ValueError(f"{rate} frames per second")
    return rate


def _positive(value: Any) -> float:
    number = float(value)
    if not (number > 0.0 and math.isfinite(number)):
        raise ValueError(f"a scale of {number}")
    return number


def _seconds(value: Any, fps: float) -> float:
    seconds = float(value)
    if not 0.0 < seconds * fps <= _MOST_FRAMES:
        raise ValueError(f"a duration of {seconds} seconds")
    return seconds
