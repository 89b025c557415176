"""How training begins in unbounded space, which has two traps: paint right before each camera, and paint far behind the scene.

Either explains all photographs and no other view, and once it is opaque nothing behind or before it is trained. Far away steps
are long, so that fog there is dense and learns fast; and the occupancy, whose threshold follows the mean, then takes the thin fog
where the scene will be for empty.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..render.types import Rays
from ..representations.field import Field
from ..representations.space import Space

FIRST = 0.5
"""How far towards the middle of space a ray begins at first."""


def approach(rays: Rays, space: Space, near: float, done: float) -> Rays:
    """Rays that begin nearer to the middle of space, the less of the opening is ``done``; ``near`` in world units is where they end up.

    It is the sample space annealing of RegNeRF (Niemeyer et al. 2022) for the near end.
    """
    if done >= 1.0 or not space.unbounded:
        return rays
    centre = 0.5 * (torch.tensor(space.lower) + torch.tensor(space.upper)).to(rays.origins)
    middle = (rays.origins - centre).norm(dim=-1)
    begin = near + FIRST * (1.0 - done) * (middle - near).clamp_min(0.0)
    return replace(rays, near=begin if rays.near is None else torch.maximum(rays.near, begin))


def keep_middle(field: Field, done: float) -> None:
    """During the opening all of the box is looked at, however thin its fog is beside what lies far away."""
    if done < 1.0 and field.space.unbounded:
        field.occupancy.open_middle()
