"""Writers of small scenes for the tests of readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

POSE = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 4.0], [0.0, 0.0, 0.0, 1.0]]
"""At (0, 0, 4), looking along -z at the origin, x to the right, y up."""


def write_image(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", colour: Any = None) -> Path:
    """A plain picture of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fill = {"RGB": (200, 100, 50), "RGBA": (200, 100, 50, 255), "L": 255}[mode] if colour is None else colour
    Image.new(mode, size, fill).save(path)
    return path


def write_object(path: Path, size: tuple[int, int] = (40, 30), border: bool = False) -> Path:
    """A picture with alpha: opaque in the middle (or up to the border), else empty."""
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[:, :] = (0, 0, 0, 0)
    inside = pixels if border else pixels[size[1] // 4 : -size[1] // 4, size[0] // 4 : -size[0] // 4]
    inside[: inside.shape[0] // 2 + 1] = (255, 0, 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def around(count: int, radius: float = 4.0, height: float = 1.0) -> list[list[list[float]]]:
    """Poses on a circle, looking at the origin."""
    from fieldmorph.render.camera import look_at

    poses = []
    for k in range(count):
        angle = 2.0 * np.pi * k / count
        flat = np.sqrt(radius**2 - height**2)
        pose = look_at((flat * np.cos(angle), flat * np.sin(angle), height), (0.0, 0.0, 0.0))
        poses.append([*pose.tolist(), [0.0, 0.0, 0.0, 1.0]])
    return poses


def frames(folder: Path, poses: list[Any], size: tuple[int, int] = (40, 30), **fields: Any) -> list[dict[str, Any]]:
    """Pictures images/NNN.png on disk and their frames."""
    listed = []
    for k, pose in enumerate(poses):
        name = f"images/{k:03d}.png"
        write_image(folder / name, size)
        listed.append({"file_path": name, "transform_matrix": pose, **fields})
    return listed


def write_transforms(folder: Path, listed: list[dict[str, Any]], name: str = "transforms.json", **top: Any) -> Path:
    """A transforms file; a focal length of 50 pixels unless given."""
    if not {"fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"} & (top.keys() | (listed[0].keys() if listed else set())):
        top["fl_x"] = 50.0
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({**top, "frames": listed}))
    return path
