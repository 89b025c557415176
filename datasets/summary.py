"""What a scene holds and how it was understood, for people and for programs; and a plan of its cameras."""

from __future__ import annotations

import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import UserError
from ..render.camera import Camera
from .scene import Scene

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Lengths are the dataset's own units; ranges are (smallest, largest)."""

    name: str
    format: str
    path: str
    images: dict[str, int]
    """Pictures per split."""
    sizes: dict[str, int]
    """Pictures per size, as "400x400"."""
    lenses: dict[str, int]
    """Pictures per lens model: pinhole, opencv or fisheye."""
    distortion: list[float] | None
    """The lens's parameters where all pictures share them."""
    focal: tuple[float, float]
    """Horizontal focal length, pixels."""
    field_of_view: tuple[float, float]
    """Vertical, degrees."""
    camera_distance: tuple[float, float]
    """From the middle of the box."""
    box: dict[str, Any]
    near: float
    up: tuple[float, float, float]
    alpha: bool
    masks: bool
    background: str
    image_bytes: int
    train_bytes: int
    fingerprint: str
    warnings: list[str]
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        low, high = self.box["lower"], self.box["upper"]
        kind = "the middle of unbounded space" if self.box["unbounded"] else "a bounded box"
        shared = "" if self.distortion is None else f" ({', '.join(f'{p:.4g}' for p in self.distortion)})"
        told = [
            f"format     {self.format}, {self.path}",
            f"pictures   {', '.join(f'{count} {split}' for split, count in self.images.items())}",
            f"size       {_counts(self.sizes)}, {self.image_bytes / 1e6:.1f} MB decoded, {self.train_bytes / 1e6:.1f} MB of it to train",
            f"colour     {'straight alpha, over white' if self.alpha else 'opaque'}{', with masks' if self.masks else ''}",
            f"lens       {_counts(self.lenses)}{shared}, focal length {_range(self.focal)} px, {_range(self.field_of_view)} degrees high",
            f"box        {_corner(low)} to {_corner(high)}: {kind}; {self.facts.get('box', '')}",
            f"cameras    {_range(self.camera_distance)} from its middle, nothing closer than {self.near:.4g}; up is {_corner(self.up)}",
        ]
        return told + [f"warning    {line}" for line in self.warnings]


def summarize(scene: Scene) -> Summary:
    """Reads nothing but the scene object."""
    cameras = scene.cameras
    middle = 0.5 * (np.array(scene.space.lower) + np.array(scene.space.upper))
    lenses = {camera.distortion for camera in cameras}
    only = next(iter(lenses)) if len(lenses) == 1 else None
    return Summary(
        name=scene.name,
        format=scene.format,
        path=str(scene.root),
        images={split: len(indices) for split, indices in scene.split.items()},
        sizes=dict(Counter(f"{camera.width}x{camera.height}" for camera in cameras).most_common()),
        lenses=dict(Counter("pinhole" if camera.distortion is None else camera.distortion.model for camera in cameras).most_common()),
        distortion=None if only is None else list(only.params),
        focal=_extent(camera.fx for camera in cameras),
        field_of_view=_extent(camera.fov for camera in cameras),
        camera_distance=_extent(float(np.linalg.norm(camera.position - middle)) for camera in cameras),
        box={"lower": list(scene.space.lower), "upper": list(scene.space.upper), "unbounded": scene.space.unbounded},
        near=scene.near,
        up=scene.up,
        alpha=scene.has_alpha,
        masks=scene.images.has_masks,
        background=scene.background,
        image_bytes=scene.image_bytes,
        train_bytes=scene.split_bytes("train"),
        fingerprint=scene.fingerprint,
        warnings=list(scene.warnings),
        facts=dict(scene.facts),
    )


def _extent(values: Iterable[float]) -> tuple[float, float]:
    listed = list(values)
    return min(listed), max(listed)


def _range(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:.4g}" if high - low <= 1e-4 * abs(high) else f"{low:.4g} to {high:.4g}"


def _counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} of {name}" for name, count in list(counts.items())[:5]) + (", …" if len(counts) > 5 else "")


def _corner(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


COLOURS = {"train": (38, 92, 170), "val": (60, 150, 80), "test": (205, 70, 40)}
INK, PALE = (40, 40, 44), (205, 207, 212)


def draw_cameras(scene: Scene, path: Path, *, size: int = 640) -> None:
    """A PNG with a plan from above (along ``scene.up``) and a view from the side: cameras, where they look, and the box.

    Each panel is ``size`` pixels square. Raises UserError where the file cannot be written.
    """
    across, forward, up = _axes(np.array(scene.up, np.float64))
    lower, upper = np.array(scene.space.lower), np.array(scene.space.upper)
    corners = np.array([[(lower, upper)[(k >> axis) & 1][axis] for axis in range(3)] for k in range(8)])
    points = np.concatenate([np.stack([camera.position for camera in scene.cameras]), corners])
    middle = 0.5 * (points.min(0) + points.max(0))
    reach = 1.12 * float(np.linalg.norm(points - middle, axis=1).max())
    scale = 2  # drawn twice as large and averaged: Pillow's lines are not anti-aliased
    picture = Image.new("RGB", (2 * size * scale, size * scale), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for panel, (title, horizontal, vertical) in enumerate((("from above", across, forward), ("from the side", across, up))):
        frame = np.stack([horizontal, -vertical])

        def place(point: Array, frame: Array = frame, panel: int = panel) -> tuple[float, float]:
            u, v = frame @ (point - middle) / reach * (0.5 * size) + 0.5 * size
            return float((u + panel * size) * scale), float(v * scale)

        for a in range(8):
            for bit in (1, 2, 4):
                if not a & bit:
                    draw.line([place(corners[a]), place(corners[a | bit])], fill=PALE, width=2 * scale)
        for split in ("train", "val", "test"):
            for index in scene.split.get(split, []):
                _frustum(draw, scene.cameras[index], 0.07 * reach, COLOURS[split], scale, place)
        draw.text((panel * size * scale + 12 * scale, 10 * scale), title, fill=INK, font_size=15 * scale)
    for row, split in enumerate(name for name in ("train", "val", "test") if scene.split.get(name)):
        text = f"{split}: {len(scene.split[split])}"
        draw.text((12 * scale, (34 + 20 * row) * scale), text, fill=COLOURS[split], font_size=14 * scale)
    picture = picture.resize((2 * size, size), Image.Resampling.BOX)
    data = io.BytesIO()
    picture.save(data, "PNG")
    _write(path, data.getvalue())


def _axes(up: Array) -> tuple[Array, Array, Array]:
    """Right-handed (across, forward, up) with ``up`` as given."""
    up = up / np.linalg.norm(up)
    hint = np.array([1.0, 0.0, 0.0]) if abs(up[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    across = hint - (hint @ up) * up
    across /= np.linalg.norm(across)
    return across, np.cross(up, across), up


def _frustum(draw: ImageDraw.ImageDraw, camera: Camera, length: float, colour: tuple[int, int, int], scale: int, place: Any) -> None:
    pose = camera.camera_to_world
    x0, x1 = -camera.cx / camera.fx, (camera.width - camera.cx) / camera.fx
    y0, y1 = camera.cy / camera.fy, (camera.cy - camera.height) / camera.fy
    # Very wide lenses would fill the plan: their pyramids are drawn with at most 90 degrees.
    local = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]).clip(-1.0, 1.0)
    ends = [place(pose[:, :3] @ np.array([u * length, v * length, -length]) + pose[:, 3]) for u, v in local]
    eye = place(pose[:, 3])
    for k, end in enumerate(ends):
        draw.line([eye, end], fill=colour, width=scale)
        draw.line([end, ends[(k + 1) % 4]], fill=colour, width=scale)
    radius = 2.5 * scale
    draw.ellipse([eye[0] - radius, eye[1] - radius, eye[0] + radius, eye[1] + radius], fill=colour)


def _write(path: Path, data: bytes) -> None:
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another file") from error
