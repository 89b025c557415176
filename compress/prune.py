"""Numbers that no ray can reach, taken out of a field for good."""

from __future__ import annotations

import torch
from torch import nn

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
    bits = field.occupancy.bits.cpu().numpy()
    live = torch.from_numpy(reached(bits, *(n - 1 for n in field.grid))).to(field.links.device) & (field.links >= 0)
    rows = field.links[live].long()
    dropped = field.rows - len(rows)
    field.density_data = nn.Parameter(field.density_data.index_select(0, rows))
    field.sh_data = nn.Parameter(field.sh_data.index_select(0, rows))
    field.links.fill_(-1)
    field.links[live] = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    return dropped
