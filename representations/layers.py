"""From a list of edits to the layers that are the edited scene (see :mod:`edits` and ``kernels.lowered.Layer``).

The scene begins as one layer, the field itself.  Deleting adds a condition to every layer, recolouring a tint; moving
and duplicating add, for every layer that reaches the region, the same layer seen through the inverse of the motion,
its conditions and tints carried along.  So any list of edits ends as a flat list that a kernel can walk through.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..kernels.lowered import BOX, SPHERE, Affine, Layer, RegionTest
from .edits import Edit, Region
from .space import Space, Vec3

Matrix = NDArray[np.floating]

MOST_LAYERS = 256
LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709: what of a colour is light and shade."""


@dataclass(frozen=True)
class _Test:
    """A region by the map (4x4) of scene positions into its unit cube or ball."""

    shape: int
    matrix: Matrix

    def through(self, inverse: Matrix) -> _Test:
        return replace(self, matrix=self.matrix @ inverse)

    def bounds(self) -> tuple[Matrix, Matrix]:
        back = np.linalg.inv(self.matrix)
        linear = np.abs(back[:3, :3])
        reach = linear.sum(1) if self.shape == BOX else np.sqrt(np.square(linear).sum(1))
        return back[:3, 3] - reach, back[:3, 3] + reach

    def lowered(self) -> RegionTest:
        return RegionTest(self.shape, _flat(self.matrix))


@dataclass(frozen=True)
class _Placed:
    source: int
    to_source: Matrix
    lower: Matrix
    """Corner of a scene box that holds all of the layer; infinite for unbounded space."""
    upper: Matrix
    conditions: tuple[tuple[_Test, bool], ...] = ()
    tints: tuple[tuple[_Test, Affine], ...] = ()

    def within(self, test: _Test, inside: bool) -> _Placed | None:
        """The part of the layer inside (or outside) a region; None where there is nothing of it."""
        low, high = test.bounds()
        if inside:
            lower, upper = np.maximum(self.lower, low), np.minimum(self.upper, high)
            if (lower >= upper).any():
                return None
            return replace(self, lower=lower, upper=upper, conditions=(*self.conditions, (test, True)))
        if (np.maximum(self.lower, low) >= np.minimum(self.upper, high)).any():
            return self
        return replace(self, conditions=(*self.conditions, (test, False)))

    def moved(self, motion: Matrix) -> _Placed:
        inverse = np.linalg.inv(motion)
        lower, upper = _box_image(motion, self.lower, self.upper)
        return replace(
            self,
            to_source=self.to_source @ inverse,
            lower=lower,
            upper=upper,
            conditions=tuple((test.through(inverse), inside) for test, inside in self.conditions),
            tints=tuple((test.through(inverse), tint) for test, tint in self.tints),
        )


def _flat(matrix: Matrix) -> Affine:
    return tuple(float(n) for n in matrix[:3].reshape(-1))


def _box_image(motion: Matrix, lower: Matrix, upper: Matrix) -> tuple[Matrix, Matrix]:
    """The box around the image of a box."""
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        return np.full(3, -np.inf), np.full(3, np.inf)
    corners = np.array(list(itertools.product(*zip(lower, upper, strict=True))))
    image = corners @ motion[:3, :3].T + motion[:3, 3]
    return image.min(0), image.max(0)


def _test(region: Region) -> _Test:
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1.0 / np.array(region.half))
    matrix[:3, 3] = -np.array(region.centre) / np.array(region.half)
    return _Test(BOX if region.shape == "box" else SPHERE, matrix)


def motion(edit: Edit, about: Vec3) -> Matrix:
    """The 4x4 map that takes content to where the edit puts it: turned and scaled about a point, then shifted."""
    axis = np.array(edit.axis) / np.linalg.norm(edit.axis)
    angle = np.deg2rad(edit.degrees)
    cross = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross  # Rodrigues
    out = np.eye(4)
    out[:3, :3] = edit.scale * turn
    out[:3, 3] = np.array(about) - out[:3, :3] @ np.array(about) + np.array(edit.by)
    return out


def tint_of(color: Vec3, amount: float) -> Affine:
    """Colour -> colour times its brightness, mixed with the colour it had."""
    linear = (1.0 - amount) * np.eye(3) + amount * np.outer(color, LUMA)
    return tuple(float(n) for n in np.concatenate([linear, np.zeros((3, 1))], 1).reshape(-1))


def _source(index: int, space: Space, clip: bool) -> _Placed:
    """A source as it is; ``clip``: only the middle box of an unbounded one."""
    lower, upper = np.array(space.lower), np.array(space.upper)
    if not space.unbounded:
        return _Placed(index, np.eye(4), lower, upper)
    everywhere = _Placed(index, np.eye(4), np.full(3, -np.inf), np.full(3, np.inf))
    if not clip:
        return everywhere
    inside = everywhere.within(_test(Region("box", (*space.lower, *space.upper))), True)
    assert inside is not None
    return inside


def scene_layers(edits: Sequence[Edit], spaces: Sequence[Space]) -> tuple[tuple[Layer, ...], Space]:
    """The layers of an edited scene and the space that holds it.

    Args:
        spaces: of the field itself, then of the inserted fields. Of an inserted unbounded field only the middle box counts.

    Raises:
        UserError: an edit names a field that is not there, or the edits cut the scene into too many layers.
    """
    base = spaces[0]
    placed = [_source(0, base, clip=False)]
    for edit in edits:
        placed = _apply(edit, placed, spaces)
        if len(placed) > MOST_LAYERS:
            raise UserError(f"these edits make {len(placed)} layers, allowed are {MOST_LAYERS}; bake what is there before editing on")
    space = base
    if not base.unbounded:
        lower = np.minimum.reduce([np.array(base.lower), *(p.lower for p in placed)])
        upper = np.maximum.reduce([np.array(base.upper), *(p.upper for p in placed)])
        space = Space(tuple(lower.tolist()), tuple(upper.tolist()))
    layers = []
    for p in placed:
        length = abs(float(np.linalg.det(p.to_source[:3, :3]))) ** (1.0 / 3.0)
        layers.append(
            Layer(
                p.source,
                _flat(p.to_source),
                spaces[p.source].scale * length / space.scale,
                tuple((test.lowered(), inside) for test, inside in p.conditions),
                tuple((test.lowered(), tint) for test, tint in p.tints),
            )
        )
    return tuple(layers), space


def _apply(edit: Edit, placed: list[_Placed], spaces: Sequence[Space]) -> list[_Placed]:
    if edit.kind == "insert":
        index = edit.field + 1
        if index >= len(spaces):
            raise UserError(f"an edit inserts field {edit.field}, and there are {len(spaces) - 1}")
        space = spaces[index]
        x, y, z = (0.5 * (a + b) for a, b in zip(space.lower, space.upper, strict=True))
        return [*placed, _source(index, space, clip=True).moved(motion(edit, (x, y, z)))]
    assert edit.region is not None
    test = _test(edit.region)
    if edit.kind == "recolour":
        assert edit.color is not None
        tint = tint_of(edit.color, edit.amount)
        return [replace(p, tints=(*p.tints, (test, tint))) if p.within(test, True) else p for p in placed]
    inside = [part for p in placed if (part := p.within(test, True))]
    if edit.kind == "keep":
        return inside
    outside = [part for p in placed if (part := p.within(test, False))]
    if edit.kind == "delete":
        return outside
    arrived = [part.moved(motion(edit, edit.region.centre)) for part in inside]
    return [*(outside if edit.kind == "move" else placed), *arrived]
