"""A quick stand-in for a field while the view moves: its density and colours baked into sparse voxels. No GUI.

The voxels are the family of Plenoxels, read by its compiled kernels: no network, few samples.  Colours are
spherical harmonics of degree 2, fitted at every vertex to what the field shows from directions spread over the
sphere.  Baked previews are kept in the user's cache folder under the field file's own hash.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from platformdirs import user_cache_path
from torch import Tensor, nn

from .. import kernels
from ..errors import UserError
from ..render.camera import Camera
from ..render.types import RenderSettings
from ..representations.bake import even_directions
from ..representations.field import Field
from ..representations.field_file import load_field, save_field
from ..representations.voxels import VoxelField, VoxelOptions
from .shots import picture_psnr, shoot

ROWS = 1_500_000
"""Most vertices a preview keeps; about 60 MB."""
FINEST, COARSEST = 320, 48
DEGREE = 2
DIRECTIONS = 8
EMPTY = -10.0
CHUNK = 1 << 15
VERSION = 1
"""Part of a cached preview's name: raise it when baking changes."""
KEPT = 24
"""Cached previews; the oldest go."""


def why_no_preview(field: Field) -> str | None:
    """Why a field gets no preview, or None."""
    if field.dynamic:
        return "a dynamic field has none"
    if isinstance(field, VoxelField):
        return "voxels are quick themselves"
    if field.device.type != "cpu":
        return "a GPU is quick enough"
    return None


@torch.no_grad()
def bake(field: Field, rows: int = ROWS, progress: Callable[[float], None] = lambda share: None) -> VoxelField:
    """Voxels that look like ``field``; as fine as ``rows`` vertices near its occupied cells allow.

    ``progress`` is told the finished share, and may raise to stop.
    """
    keep, grid = _vertices(field, rows)
    index = keep.nonzero()
    options = VoxelOptions(start=min(max(2, min(grid)), 512), final=1024, degree=DEGREE, empty=EMPTY, occupancy=field.occupancy.resolution)
    layout = {"grid": list(grid), "rows": index.shape[0]}
    baked = VoxelField(options, field.space, layout)
    links = torch.full(grid, -1, dtype=torch.int32)
    links[keep] = torch.arange(index.shape[0], dtype=torch.int32)
    baked.links.copy_(links)
    directions = even_directions(DIRECTIONS)
    fit = torch.linalg.pinv(kernels.ops("cpu").spherical_harmonics(directions, DEGREE).double()).float()  # [B, K]
    density, sh = torch.empty(index.shape[0]), torch.empty(index.shape[0], 3 * DEGREE**2)
    size = torch.tensor(grid, dtype=torch.float32) - 1.0
    for begin in range(0, index.shape[0], CHUNK):
        progress(begin / index.shape[0])
        unit = (index[begin : begin + CHUNK] / size).clamp(1e-5, 1.0 - 1e-5)
        s, colors = _look_around(field, field.space.from_unit(unit), directions)
        density[begin : begin + CHUNK] = s
        raw = torch.logit(colors.clamp(0.004, 0.996))  # [N, K, 3]
        sh[begin : begin + CHUNK] = torch.einsum("bk,nkc->ncb", fit, raw).flatten(1)
    baked.density_data, baked.sh_data = nn.Parameter(density, requires_grad=False), nn.Parameter(sh, requires_grad=False)
    baked.done.zero_()
    baked.occupancy.density.copy_(field.occupancy.density)
    baked.occupancy.bits.copy_(field.occupancy.bits)
    baked.metadata = {"preview": True}
    return baked


def preview_for(
    field: Field, file: Path | None, progress: Callable[[float], None] = lambda share: None, folder: Path | None = None
) -> VoxelField:
    """The preview of a field, from the cache where its file was baked before."""
    if file is None or not file.is_file():
        return bake(field, progress=progress)
    cached = (folder or cache_folder()) / f"{file_hash(file)}-{VERSION}.field"
    try:
        found = load_field(cached)
        if isinstance(found, VoxelField) and found.space == field.space:
            return found
    except UserError:
        pass  # not there, or damaged: bake it
    baked = bake(field, progress=progress)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        save_field(baked, cached, precision="float16")
        for old in sorted(cached.parent.glob("*.field"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            old.unlink()
    except (OSError, UserError):
        pass  # a cache that cannot be written is only slower next time
    return baked


def preview_psnr(field: Field, preview: Field, camera: Camera, settings: RenderSettings, quick: RenderSettings) -> float:
    """How near a small picture of the preview, marched by ``quick``, comes to the field's, dB."""
    full = shoot(field, camera, settings, "color")
    baked = shoot(preview, camera, quick, "color")
    return picture_psnr(full.rgb + (1.0 - full.opacity[..., None]), baked.rgb + (1.0 - baked.opacity[..., None]))


def cache_folder() -> Path:
    return Path(user_cache_path("fieldmorph")) / "previews"


def file_hash(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:32]


def _vertices(field: Field, rows: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Which vertices of the finest affordable grid have an occupied cell beside them, bool [X, Y, Z]."""
    bits = field.occupancy.bits.cpu()
    cells = F.max_pool3d(bits[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    n = bits.shape[0]
    longest, sides = max(field.space.size), field.space.size
    finest = FINEST
    while True:
        grid = tuple(max(2, round(finest * side / longest)) for side in sides)
        places = [(torch.linspace(0.0, 1.0, count) * n).long().clamp(0, n - 1) for count in grid]
        keep = cells[places[0]][:, places[1]][:, :, places[2]]
        found = int(keep.sum())
        if found <= rows or finest <= COARSEST:
            return keep, (grid[0], grid[1], grid[2])
        finest = max(COARSEST, math.floor(finest * min(0.97, (rows / found) ** (1.0 / 3.0))))


def _look_around(field: Field, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Raw log density [N], at least EMPTY, and colours [N, K, 3] seen along K directions."""
    ops, lowered = kernels.ops("cpu"), field.lower()
    if lowered is not None and ops.supports(lowered) is None:
        colors = []
        for direction in directions:
            s, gate, _, rgb = field.evaluate(positions, direction.expand_as(positions).contiguous())
            colors.append(rgb)
        stacked = torch.stack(colors, 1)
    else:
        geometry = field.geometry(positions)
        s, gate = geometry.log_density, geometry.gate
        stacked = torch.stack([field.color(geometry.features, direction.expand_as(positions)) for direction in directions], 1)
    density = torch.log(gate.clamp_min(1e-30)) + s
    return density.clamp(EMPTY, 12.0), stacked
