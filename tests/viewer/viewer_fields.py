"""Fields that need no training: a box of coloured blocks as voxels, quick on every machine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from fieldmorph.render.camera import Camera, look_at
from fieldmorph.representations.field import Field
from fieldmorph.representations.space import Space
from fieldmorph.representations.voxels import VoxelField, VoxelOptions

SIDE = 16
GREEN, RED, BLUE = (0.1, 0.8, 0.1), (0.9, 0.1, 0.1), (0.1, 0.2, 0.9)


def blocks(left: tuple[float, float, float] = RED, right: tuple[float, float, float] = BLUE) -> VoxelField:
    """Two opaque cubes, one at x < 0, one at x > 0, in the box [-1, 1]^3; the recorded cameras look at them from -Y, +X and above."""
    space = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    options = VoxelOptions(start=SIDE, final=SIDE, degree=1, occupancy=SIDE)
    field = VoxelField(options, space, {"grid": [SIDE] * 3, "rows": SIDE**3})
    field.links.copy_(torch.arange(SIDE**3, dtype=torch.int32).view(SIDE, SIDE, SIDE))
    field.done.zero_()
    axis = torch.linspace(-1.0, 1.0, SIDE)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    inside = (x.abs() > 0.15) & (x.abs() < 0.75) & (y.abs() < 0.5) & (z.abs() < 0.5)
    density = torch.where(inside, 5.0, -10.0).reshape(-1)
    # Degree 1 has one constant function, 1 / (2 sqrt(pi)); a sigmoid follows.
    colors = torch.where((x < 0).reshape(-1, 1), torch.tensor(left), torch.tensor(right))
    field.density_data = nn.Parameter(density)
    field.sh_data = nn.Parameter(torch.logit(colors) * 2.0 * math.sqrt(math.pi))
    field.occupancy.bits.copy_(torch.nn.functional.max_pool3d(inside[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0)
    field.occupancy.density.copy_(field.occupancy.bits.float())
    poses = [look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)) for eye in ((0.0, -4.0, 1.0), (4.0, 0.0, 1.0), (0.1, -0.1, 4.0))]
    cameras = [Camera.perspective(64, 48, 40.0, pose, name=f"view-{index}") for index, pose in enumerate(poses)]
    field.metadata = {"cameras": [camera.to_dict() for camera in cameras], "background": "white", "history": ["made by a test"]}
    field.requires_grad_(False)
    return field


def captured(folder: Path) -> None:
    """A dataset with sparse points, all over the blocks' box."""
    (folder / "images").mkdir(parents=True)
    listed = []
    for camera in (Camera.from_dict(described) for described in blocks().metadata["cameras"]):
        Image.new("RGB", (camera.width, camera.height)).save(folder / f"images/{camera.name}.png")
        pose = [*camera.camera_to_world.tolist(), [0.0, 0.0, 0.0, 1.0]]
        listed.append({"file_path": f"images/{camera.name}.png", "transform_matrix": pose})
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 40.0, "ply_file_path": "points.ply", "frames": listed}))
    kinds = [*(f"property float {axis}" for axis in "xyz"), *(f"property uchar {color}" for color in ("red", "green", "blue"))]
    places = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    lines = [f"{x} {y} {z} 255 0 255" for x, y, z in places.tolist()]
    (folder / "points.ply").write_text("\n".join(["ply", "format ascii 1.0", "element vertex 500", *kinds, "end_header", *lines, ""]))


class Changing(Field):
    """A stand-in for a dynamic family: the left block turns from red to green, the right one stays blue."""

    family = "changing"
    dynamic = True
    frames = 11

    def __init__(self, part: str | None = None) -> None:
        start = blocks()
        super().__init__(start.options, start.space, SIDE)
        self.shown = part
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.occupancy.bits.copy_(start.occupancy.bits)
        self.metadata = start.metadata
        self.split: Tensor = start.occupancy.bits.clone()
        self.split[SIDE // 2 :] = False
        self.asked: list[float] = []

    def at(self, time: float) -> Field:
        self.asked.append(time)
        left = tuple((1.0 - time) * a + time * b for a, b in zip(RED, GREEN, strict=True))
        found = blocks((left[0], left[1], left[2]))
        if self.shown is not None:
            keep = self.split if self.shown == "dynamic" else ~self.split
            found.occupancy.bits &= keep
        return found

    def part(self, name: str) -> Changing:
        return Changing(name)
