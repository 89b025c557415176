"""Cameras: where a pixel looks, and where a point lands.

A camera-to-world matrix is [3, 4] in OpenGL axes (+X right, +Y up, -Z look) and world units;
pixel coordinates are (x right, y down) with (0.5, 0.5) at the first pixel's centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .distortion import Distortion
from .types import Rays

__all__ = ["Camera", "CameraSet", "Distortion", "look_at", "pixel_centres"]

Array = NDArray[np.float64]

LOOKUP_BYTES = 96 << 20
"""Most memory a :class:`CameraSet` spends on tables of undistorted directions."""
LOOKUP_ERROR = 2e-3
"""A table is used only where it is this exact, in pixels."""


@dataclass(frozen=True, eq=False)
class Camera:
    """One posed, calibrated camera.

    ``camera_to_world`` [3, 4] float64 is taken to be rigid (readers check it); it is copied and made read-only.
    ``time`` in [0, 1] belongs to dynamic scenes. Raises ValueError for impossible sizes or non-finite numbers.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    camera_to_world: Array
    distortion: Distortion | None = None
    time: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        pose = np.array(self.camera_to_world, dtype=np.float64)
        if pose.shape not in ((3, 4), (4, 4)):
            raise ValueError(f"camera_to_world must be [3, 4] or [4, 4], got {list(pose.shape)}")
        pose = pose[:3].copy()
        numbers = [self.fx, self.fy, self.cx, self.cy, *pose.ravel().tolist()]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("a camera needs finite intrinsics and pose")
        if self.width < 1 or self.height < 1 or self.fx <= 0.0 or self.fy <= 0.0:
            raise ValueError(f"a camera needs a positive size and focal length, got {self.width}x{self.height}, {self.fx}, {self.fy}")
        pose.flags.writeable = False
        object.__setattr__(self, "camera_to_world", pose)

    @classmethod
    def perspective(
        cls, width: int, height: int, fov: float, camera_to_world: ArrayLike, time: float | None = None, name: str = ""
    ) -> Camera:
        """A centred pinhole with square pixels and a vertical field of view of ``fov`` degrees."""
        focal = 0.5 * height / math.tan(math.radians(fov) / 2.0)
        return cls(width, height, focal, focal, width / 2.0, height / 2.0, np.asarray(camera_to_world, np.float64), time=time, name=name)

    @property
    def fov(self) -> float:
        """Vertical field of view of the undistorted picture, degrees."""
        return math.degrees(math.atan((self.height - self.cy) / self.fy) + math.atan(self.cy / self.fy))

    @property
    def position(self) -> Array:
        """The camera's centre in world units, [3]."""
        return self.camera_to_world[:, 3]

    def rays(self, pixels: ArrayLike | Tensor | None = None) -> Rays:
        """Rays through ``pixels`` [N, 2] (x, y); None: through all pixel centres, row by row, [H * W]."""
        pixels = pixels.detach().cpu() if isinstance(pixels, Tensor) else pixels
        xy = pixel_centres(self.width, self.height) if pixels is None else np.asarray(pixels, np.float64).reshape(-1, 2)
        directions = lens_directions(self, xy) @ opencv_rotation(self.camera_to_world).T
        origins = np.broadcast_to(self.position, directions.shape)
        return Rays(torch.from_numpy(origins.astype(np.float32)), torch.from_numpy(directions.astype(np.float32)))

    def project(self, points: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
        """World points [N, 3] to pixels [N, 2] and their distance along the optical axis [N], float64; exact inverse of :meth:`rays`.

        Pixels are NaN for points the lens cannot see (behind a perspective camera, beyond the
        distortion's invertible region); they may fall outside the picture.
        """
        points = points.detach().cpu() if isinstance(points, Tensor) else points
        world = np.asarray(points, np.float64).reshape(-1, 3)
        local = (world - self.position) @ opencv_rotation(self.camera_to_world)
        lens = self.distortion or _PINHOLE
        image = lens.to_image(local)
        return torch.from_numpy(image * (self.fx, self.fy) + (self.cx, self.cy)), torch.from_numpy(local[:, 2].copy())

    def resized(self, width: int, height: int) -> Camera:
        """The same view in a picture of another size; the axes scale independently."""
        sx, sy = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy)

    def fitted(self, width: int, height: int) -> Camera:
        """The same view in a picture of another shape: scaled by the height, cut or widened evenly left and right."""
        s = height / self.height
        cx = self.cx * s + 0.5 * (width - self.width * s)
        return replace(self, width=width, height=height, fx=self.fx * s, fy=self.fy * s, cx=cx, cy=self.cy * s)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` restores every number exactly."""
        data: dict[str, Any] = {key: getattr(self, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
        data["camera_to_world"] = self.camera_to_world.tolist()
        if self.distortion is not None:
            data["distortion"] = self.distortion.to_dict()
        if self.time is not None:
            data["time"] = self.time
        if self.name:
            data["name"] = self.name
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Camera:
        """Raises KeyError, TypeError or ValueError for data :meth:`to_dict` could not have written."""
        lens = data.get("distortion")
        return cls(
            int(data["width"]),
            int(data["height"]),
            float(data["fx"]),
            float(data["fy"]),
            float(data["cx"]),
            float(data["cy"]),
            camera_to_world=np.asarray(data["camera_to_world"], np.float64),
            distortion=None if lens is None else Distortion.from_dict(lens),
            time=None if data.get("time") is None else float(data["time"]),
            name=str(data.get("name", "")),
        )


_PINHOLE = Distortion("opencv", (0.0,) * 6)


def opencv_rotation(camera_to_world: Array) -> Array:
    """Rotation from OpenCV camera axes to the world, [3, 3]: columns 1 and 2 of an OpenGL pose negated."""
    rotation: Array = camera_to_world[:, :3] * (1.0, -1.0, -1.0)
    return rotation


def pixel_centres(width: int, height: int) -> Array:
    """All pixel centres (x, y) row by row, [H * W, 2]."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x.ravel(), y.ravel()], -1)


def lens_directions(camera: Camera, xy: Array) -> Array:
    """Unit directions [N, 3] in OpenCV camera axes through pixels [N, 2]."""
    image = (xy - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    if camera.distortion is not None and not camera.distortion.is_identity:
        return camera.distortion.to_directions(image)
    directions: Array = np.concatenate([image, np.ones_like(image[:, :1])], -1)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return directions


def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> Array:
    """Camera-to-world [3, 4] of a camera at ``position`` looking at ``target``.

    Where ``up`` is parallel to the view, any perpendicular serves.
    """
    eye, aim, upward = (np.asarray(v, np.float64) for v in (position, target, up))
    back = eye - aim
    length = np.linalg.norm(back)
    back = back / length if length > 0.0 else np.array([0.0, 0.0, 1.0])
    right = np.cross(upward, back)
    if np.linalg.norm(right) < 1e-9 * max(1.0, float(np.linalg.norm(upward))):
        right = np.cross(np.eye(3)[np.argmin(np.abs(back))], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back, eye], -1)


class CameraSet:
    """Many cameras as tensors, for drawing rays from all of them at once.

    Distorted lenses are undistorted once into a table per distinct lens (bilinear, exact at
    pixel centres of a full-resolution table); where that would cost too much memory or
    precision, every call undistorts by iteration.
    """

    def __init__(self, cameras: Sequence[Camera], device: torch.device | str | None = None) -> None:
        self.cameras = tuple(cameras)
        self.device = torch.device(device or "cpu")
        poses = np.stack([camera.camera_to_world for camera in cameras]) if cameras else np.zeros((0, 3, 4))
        rotations = poses[:, :, :3] * (1.0, -1.0, -1.0)
        self.rotations = torch.as_tensor(rotations, dtype=torch.float32, device=self.device)  # [C, 3, 3] from OpenCV camera axes
        self.positions = torch.as_tensor(poses[:, :, 3], dtype=torch.float32, device=self.device)  # [C, 3]
        numbers = [[c.fx, c.fy, c.cx, c.cy, c.width, c.height] for c in cameras]
        self.intrinsics = torch.tensor(numbers, dtype=torch.float32, device=self.device).reshape(-1, 6)  # fx fy cx cy width height
        self._group, self._lenses, self._tables = self._build_tables()

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: int) -> Camera:
        return self.cameras[index]

    @property
    def times(self) -> Tensor | None:
        """[C], or None where some camera has no time."""
        values = [camera.time for camera in self.cameras]
        return None if not values or None in values else torch.tensor(values, dtype=torch.float32, device=self.device)

    def to(self, device: torch.device | str) -> CameraSet:
        return self if torch.device(device) == self.device else CameraSet(self.cameras, device)

    def rays(self, camera_index: Tensor, xy: Tensor) -> Rays:
        """Rays through pixels ``xy`` [N, 2] of cameras ``camera_index`` [N] int; float32, on the set's device."""
        index = camera_index.to(self.device, torch.long)
        xy = xy.to(self.device, torch.float32)
        numbers = self.intrinsics.index_select(0, index)
        image = (xy - numbers[:, 2:4]) / numbers[:, 0:2]
        local = torch.cat([image, torch.ones_like(image[:, :1])], -1)
        if self._lenses:
            group = self._group[index]
            for lens, table in enumerate(self._tables):
                chosen = (group == lens).nonzero()[:, 0]
                if chosen.numel():
                    local[chosen] = self._lookup(lens, table, xy[chosen])
        local = local / local.norm(dim=-1, keepdim=True)
        # index_select, not [index]: that one starts OpenMP threads whatever the size, which costs milliseconds on a busy CPU.
        directions = (self.rotations.index_select(0, index) * local[:, None, :]).sum(-1)
        return Rays(self.positions.index_select(0, index), directions / directions.norm(dim=-1, keepdim=True))

    def _lookup(self, lens: int, table: tuple[Tensor, int] | None, xy: Tensor) -> Tensor:
        if table is None:
            directions = lens_directions(self._lenses[lens], xy.cpu().numpy().astype(np.float64))
            return torch.as_tensor(directions, dtype=torch.float32, device=self.device)
        grid, stride = table
        rows, columns = grid.shape[:2]
        place = (xy - 0.5) / stride + 1.0  # node (1, 1) is the first pixel's centre
        x = place[:, 0].clamp(0.0, columns - 1.001)
        y = place[:, 1].clamp(0.0, rows - 1.001)
        i, j = x.floor().long(), y.floor().long()
        u, v = (x - i)[:, None], (y - j)[:, None]
        top = grid[j, i] * (1.0 - u) + grid[j, i + 1] * u
        bottom = grid[j + 1, i] * (1.0 - u) + grid[j + 1, i + 1] * u
        return top * (1.0 - v) + bottom * v

    def _build_tables(self) -> tuple[Tensor, list[Camera], list[tuple[Tensor, int] | None]]:
        lenses: dict[tuple[Any, ...], int] = {}
        distinct: list[Camera] = []
        group: list[int] = []
        for camera in self.cameras:
            if camera.distortion is None or camera.distortion.is_identity:
                group.append(-1)
                continue
            key = (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion)
            if key not in lenses:
                lenses[key] = len(distinct)
                distinct.append(camera)
            group.append(lenses[key])
        tables = [self._table(camera, LOOKUP_BYTES // len(distinct)) for camera in distinct]
        return torch.tensor(group, dtype=torch.long, device=self.device), distinct, tables

    def _table(self, camera: Camera, budget: int) -> tuple[Tensor, int] | None:
        """Directions at a lattice of pixel centres ``stride`` apart, one node beyond every side; None where too large or too coarse."""
        for stride in (1, 2, 4, 8):
            columns, rows = math.ceil(camera.width / stride) + 2, math.ceil(camera.height / stride) + 2
            if rows * columns * 12 <= budget:
                break
        else:
            return None
        x, y = np.meshgrid((np.arange(columns) - 1.0) * stride + 0.5, (np.arange(rows) - 1.0) * stride + 0.5)
        directions = lens_directions(camera, np.stack([x.ravel(), y.ravel()], -1))
        grid = torch.as_tensor(directions, dtype=torch.float32, device=self.device).reshape(rows, columns, 3)
        probes = np.random.default_rng(0).uniform((0.0, 0.0), (camera.width, camera.height), (2048, 2))
        probes = np.concatenate([probes, [[0, 0], [camera.width, 0], [0, camera.height], [camera.width, camera.height]]])
        exact = lens_directions(camera, probes)
        found = self._lookup(0, (grid, stride), torch.as_tensor(probes, dtype=torch.float32, device=self.device)).cpu().double().numpy()
        found /= np.linalg.norm(found, axis=-1, keepdims=True)
        if np.linalg.norm(found - exact, axis=-1).max() * max(camera.fx, camera.fy) > LOOKUP_ERROR:
            return None
        return grid, stride
