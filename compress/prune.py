"""Voxels taken out of a field for good: those that no ray can reach, and those that show least."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..representations.field import Field
from ..representations.packing import reached
from ..representations.voxels import VoxelField


@torch.no_grad()
def drop_unreached(field: Field) -> int:
    """Take rows that no occupied cell reaches out of a voxel field, and put the others in the order of their vertices.

    Returns how many. Tables of other families keep their shape; their unreached rows are left out of the file.
    """
    if not isinstance(field, VoxelField):
        return 0
    return _keep(field, _reached(field))


@torch.no_grad()
def drop_unseen(field: VoxelField, share: float, sensitivity: Mapping[str, Tensor]) -> int:
    """Keep at most ``share`` of the lattice's vertices: those that show most. Returns how many rows went.

    Args:
        sensitivity: of every parameter (:mod:`.sensitivity`). How much a vertex shows is that of its density and its colours
            together: behind an opaque surface neither counts, on it the density hardly does any more but the colours do.
    """
    seen = sensitivity["density_data"] + sensitivity["sh_data"].sum(-1)
    live = _reached(field)
    most = max(1, int(share * live.numel()))
    if int(live.sum()) > most:
        shown = torch.full(live.shape, -1.0, device=live.device)
        shown[live] = seen.to(live.device)[field.links[live].long()]
        chosen = torch.zeros_like(live).flatten()
        chosen[shown.flatten().topk(most).indices] = True
        live &= chosen.view_as(live)
    return _keep(field, live)


def _reached(field: VoxelField) -> Tensor:
    """Vertices [X, Y, Z] with a row that some occupied cell reads, bool."""
    bits = field.occupancy.bits.cpu().numpy()
    return torch.from_numpy(reached(bits, *(n - 1 for n in field.grid))).to(field.links.device) & (field.links >= 0)


def _keep(field: VoxelField, live: Tensor) -> int:
    rows = field.links[live].long()
    dropped = field.rows - len(rows)
    field.density_data = nn.Parameter(field.density_data.index_select(0, rows))
    field.sh_data = nn.Parameter(field.sh_data.index_select(0, rows))
    field.links.fill_(-1)
    field.links[live] = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    return dropped
