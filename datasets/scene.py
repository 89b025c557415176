"""A scene: posed, calibrated photographs with the region of space they show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..render.camera import Camera
from ..representations.space import Space, Vec3
from .images import Images
from .points import Points, read_ply

HOLDOUT = 8
"""Where a file names no split, every so many-th picture in file-name order is held out for testing."""


@dataclass(frozen=True)
class Scene:
    """What training, evaluation and rendering need to know; image i of ``images`` belongs to ``cameras[i]``.

    World axes and units are those of the input files.
    """

    name: str
    root: Path
    """The path it was read from, absolute; :func:`load_scene` reads it again."""
    format: str
    cameras: list[Camera]
    images: Images
    split: dict[str, list[int]]
    """Indices of "train", "val" and "test" (always present, the last two possibly empty); they may overlap."""
    space: Space
    near: float
    """Nothing is seen closer to a camera than this, world units."""
    has_alpha: bool
    """Whether some picture is partly transparent; then background is empty space."""
    background: Literal["white", "none"] = "none"
    """What pictures are composited over for evaluation: white where they carry alpha."""
    up: Vec3 = (0.0, 0.0, 1.0)
    fingerprint: str = ""
    """SHA-256 over poses, intrinsics, names and image file sizes; the same for a copied folder."""
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """Informative fields of the file, e.g. ``applied_transform``, and how the box was found."""
    points_file: Path | None = None
    """Where the sparse points are that the capture came with, if it names some; they share the world of the cameras."""

    @property
    def image_bytes(self) -> int:
        """Memory all decoded pictures would take."""
        return self.images.bytes_of()

    def points(self) -> Points | None:
        """The sparse points of the capture, None where it names none.

        Raises:
            UserError: their file is missing or damaged.
        """
        return None if self.points_file is None else read_ply(self.points_file)

    def split_bytes(self, split: str) -> int:
        """Memory the decoded pictures of one split take."""
        return self.images.bytes_of(self.split.get(split, []))


def load_scene(path: Path | str, *, holdout: int = HOLDOUT) -> Scene:
    """Read a scene from a folder or file, whatever its format; pictures are decoded later.

    ``holdout``: every so many-th picture tests where the files name no split; 0 holds out none.

    Raises:
        UserError: nothing there, no known format, or something wrong in it; the sentence says what.
    """
    from .formats import FORMATS

    if holdout < 0 or holdout == 1:
        raise UserError(f"holdout must be 0 (none) or at least 2, got {holdout}")
    root = Path(path).expanduser().resolve()
    if not root.exists():
        raise UserError(f"{path}: no such file or folder; give a scene folder, or make one with: fieldmorph data make {path}")
    for reader in FORMATS:
        if reader.sniff(root):
            return reader.read(root, holdout)
    known = "; ".join(f"{reader.name}: {reader.signature}" for reader in FORMATS)
    raise UserError(f"{path}: no scene format recognised (known are {known}); give the folder that holds the poses")


def fingerprint(cameras: Sequence[Camera], images: Images, split: dict[str, list[int]]) -> str:
    """Hash of all that makes a scene what it is, without reading pixels; independent of where the folder lies."""
    digest = hashlib.sha256()
    for camera, file in zip(cameras, images.files, strict=True):
        numbers = (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.time, camera.distortion)
        digest.update(repr((camera.name, numbers, file.name, file.stat().st_size)).encode())
        digest.update(camera.camera_to_world.tobytes())
    digest.update(repr(sorted(split.items())).encode())
    return digest.hexdigest()
