"""Camera paths in the layouts of other programs; :mod:`path_files` reads both back, and writes our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..representations.container import atomic_file
from .path_files import write_path
from .paths import CameraPath
from .splines import Keyframe, quaternion_from_matrix

__all__ = ["LAYOUTS", "export_path"]

Array = NDArray[np.float64]

LAYOUTS = ("fieldmorph", "nerfstudio", "instant-ngp")


def export_path(
    path: str | Path, film: CameraPath, layout: str, *, ngp_scale: float = 0.33, ngp_offset: Sequence[float] = (0.5, 0.5, 0.5)
) -> None:
    """Write a path in one of :data:`LAYOUTS`.

    nerfstudio's holds every frame, instant-ngp's the keyframes (every frame where there are none), placed in its
    unit cube by ``scale`` and ``offset`` of the transforms.json it was trained on.

    Raises:
        UserError: an unknown layout, an empty path, or a file that cannot be written.
    """
    if layout not in LAYOUTS:
        raise UserError(f"{path}: there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if not film.cameras:
        raise UserError(f"{path}: the camera path is empty; add keyframes first")
    if layout == "fieldmorph":
        write_path(path, film)
        return
    content = _nerfstudio(film) if layout == "nerfstudio" else _ngp(film, ngp_scale, ngp_offset)
    with atomic_file(Path(path)) as file:
        file.write(json.dumps(content, indent=1).encode())


def _matrix(pose: Array) -> list[float]:
    """16 numbers, row by row."""
    flat: list[float] = np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]]).ravel().tolist()
    return flat


def _keys(film: CameraPath) -> list[Keyframe]:
    if film.keyframes is not None:
        return list(film.keyframes.frames)
    return [Keyframe(np.asarray(camera.camera_to_world), camera.fov, camera.time) for camera in film.cameras]


def _nerfstudio(film: CameraPath) -> dict[str, Any]:
    first = film.cameras[0]
    aspect, seconds = first.width / first.height, len(film) / film.fps
    keys = _keys(film)
    each = seconds / max(1, len(keys) - (not film.loop))
    return {
        "default_fov": keys[0].fov,
        "default_transition_sec": each,
        "keyframes": [
            {
                "matrix": _matrix(key.camera_to_world),
                "fov": key.fov,
                "aspect": aspect,
                "override_transition_enabled": False,
                "override_transition_sec": None,
                **({} if key.time is None else {"render_time": key.time, "override_time_enabled": True}),
            }
            for key in keys
        ],
        "camera_type": "perspective",
        "render_height": first.height,
        "render_width": first.width,
        "fps": film.fps,
        "seconds": seconds,
        "is_cycle": film.loop,
        "smoothness_value": 0.0,
        "camera_path": [
            {
                "camera_to_world": _matrix(np.asarray(camera.camera_to_world)),
                "fov": camera.fov,
                "aspect": aspect,
                **({} if camera.time is None else {"render_time": camera.time}),
            }
            for camera in film.cameras
        ],
    }


def _ngp(film: CameraPath, scale: float, offset: Sequence[float]) -> dict[str, Any]:
    keys = _keys(film)
    entries = []
    for index, key in enumerate(keys):
        pose = key.camera_to_world.copy()
        pose[:, 3] = pose[:, 3] * scale + np.asarray(offset, np.float64)
        pose = (pose * (1.0, -1.0, -1.0, 1.0))[[1, 2, 0]]  # right, down, forward in a world of cycled axes
        w, x, y, z = quaternion_from_matrix(pose[:, :3]).tolist()
        entries.append(
            {
                "R": [x, y, z, w],
                "T": pose[:, 3].tolist(),
                "slice": 0.0,
                "scale": 1.5,
                "fov": key.fov,
                "aperture_size": 0.0,
                "timestamp": (index + 1) / len(keys),
            }
        )
    return {"loop": film.loop, "time": 0.0, "duration_seconds": len(film) / film.fps, "spline_order": 3, "path": entries}
