"""What a student takes over from its teacher before it learns anything (PVD's released code, papers: section 3.4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..representations.bake import read_off, seconds_to_read_off
from ..representations.field import Field
from ..representations.options import FieldOptions, options_from
from ..representations.registry import build, get_family
from ..representations.space import Space
from ..representations.voxels import VoxelField, VoxelOptions

_COARSE_TO_FINE = ("start", "final", "marks")
READ_OFF_RATE = 0.25
"""Learning rate, relative to the family's, of a student that begins as what was read off: near its goal, larger steps lead away."""
READ_OFF_SHARE = 0.4
"""Most of a budget that reading off may take; a teacher that is too slow for it teaches a student that begins as any other."""
FACTS = ("cameras", "background", "near", "fingerprint", "color_space", "world_transform", "steps")
"""Metadata that stays true of the student."""


def new_student(
    teacher: Field, family: str, options: FieldOptions | Mapping[str, Any] | None, seed: int, space: Space | None = None
) -> Field:
    """A fresh field of a family over the teacher's space (or another box), with the facts the file of a field carries."""
    student = build(family, options, space or teacher.space, seed)
    if teacher.background is not None:
        student.add_background()
    student.metadata.update({key: copy.deepcopy(teacher.metadata[key]) for key in FACTS if key in teacher.metadata})
    student.metadata["history"] = [*teacher.metadata.get("history", [teacher.family]), f"distilled to {family}"]
    return student.to(teacher.device)


def can_be_read_off(teacher: Field, family: str, options: Mapping[str, Any], seconds: float | None) -> bool:
    """Whether a student of voxels may begin as what is read off: with a budget in seconds only where it takes a part of them."""
    if get_family(family).options is not VoxelOptions:
        return False
    wanted = options_from(VoxelOptions, options)
    return seconds is None or seconds_to_read_off(teacher, wanted.max_rows, wanted.degree) < READ_OFF_SHARE * seconds


def fine_from_the_start(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a student that is read off: at its last resolution at once, over the box that matter fills.

    What the user says about it stays as it is.
    """
    if any(name in given for name in _COARSE_TO_FINE):
        return dict(given)
    return {**given, "start": VoxelOptions.final, "marks": (0.0,)}


@torch.no_grad()
def inherit_content(student: Field, teacher: Field) -> None:
    """Read the teacher off at the vertices of a student of voxels."""
    assert isinstance(student, VoxelField)
    student.milestone(0.0)  # the box and the vertices that matter needs
    read_off(teacher, student)


@torch.no_grad()
def inherit_weights(student: Field, teacher: Field) -> list[str]:
    """Copy every parameter of the same name and shape; returns their names.

    Between families that end in PVD's hand-over that is the colour network, between ``hashgrid`` and ``mlp`` the
    density network, too; between two of one family and size it is all. The background colour is always taken over.
    """
    theirs = dict(teacher.named_parameters())
    taken = []
    for name, parameter in student.named_parameters():
        other = theirs.get(name)
        if other is not None and other.shape == parameter.shape:
            parameter.copy_(other)
            taken.append(name)
    return taken


@torch.no_grad()
def inherit_occupancy(student: Field, teacher: Field) -> None:
    """Take over which cells hold matter; between grids of unequal size a cell is occupied that overlaps an occupied one.

    Into another box cells are carried by :meth:`Occupancy.remap`, which looks at their corners and centre.
    """
    mine, theirs = student.occupancy, teacher.occupancy
    if student.space == teacher.space and mine.resolution == theirs.resolution:
        mine.density.copy_(theirs.density)
        mine.bits.copy_(theirs.bits)
        return
    if student.space != teacher.space:
        theirs = copy.deepcopy(theirs)
        theirs.remap(teacher.space, student.space)
    bits = resized(theirs.bits, mine.resolution)
    mine.bits.copy_(bits)
    mine.density.copy_(bits.float())


def resized(bits: Tensor, size: int) -> Tensor:
    """Cells [size, size, size] that overlap a set cell of ``bits`` [R, R, R]."""
    if bits.shape[0] % size == 0:
        return F.max_pool3d(bits[None, None].float(), bits.shape[0] // size)[0, 0] > 0
    for axis in range(3):
        count = bits.shape[axis]
        cell = torch.arange(size, device=bits.device)
        first, last = cell * count // size, ((cell + 1) * count - 1) // size
        parts = [bits.index_select(axis, torch.minimum(first + k, last)) for k in range(int((last - first).max()) + 1)]
        bits = torch.stack(parts).any(0)
    return bits
