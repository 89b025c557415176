"""The capture's sparse points over a picture, where the picture does not hide them. No GUI; NumPy throughout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..datasets.points import Points
from ..datasets.scene import load_scene
from ..errors import UserError
from ..render.camera import Camera
from .shots import Pixels, Shot

MOST = 30_000
"""Points that are drawn at full resolution; coarser pictures show a share of them."""
SIZE = 2.0 / 800.0
"""Side of a point, share of the view's height."""
SLACK = 0.03
"""Share of its distance that a point may lie behind what is seen there: neither it nor a field's depth is exact."""
PLAIN = (255, 178, 62)
"""Colour of points that have none, sRGB."""


def points_of(data: Path | None, name: str) -> Points:
    """The sparse points of what a field called ``name`` was trained on, thinned to what is drawn.

    Raises:
        UserError: there are none, or the dataset has moved or is damaged.
    """
    if data is None:
        raise UserError(f"{name} does not say what it was trained on; open it with --data DATA to see its sparse points")
    found = load_scene(data).points()
    if found is None:
        raise UserError(f"{data} brings no sparse points: only a transforms.json with ply_file_path does")
    return found.thinned(MOST)


def draw_points(picture: Pixels, shot: Shot, camera: Camera, points: Points, scale: float) -> Pixels:
    """A copy of a picture [H, W, 3] in [0, 1] with the points on it that nothing in ``shot`` hides.

    Args:
        camera: what the picture shows; its distortion is not applied, as with all that is drawn over pictures.
        scale: the picture's resolution relative to the window's; a share of the points as large as its pixels' is drawn.
    """
    height, width = picture.shape[:2]
    count = max(1, round(len(points) * min(1.0, scale * scale)))
    pixels, _ = replace(camera, distortion=None).project(points.xyz[:count])
    column, row = np.floor(pixels.numpy()).T
    chosen = ((column >= 0) & (column < width) & (row >= 0) & (row < height)).nonzero()[0]  # none behind the camera: those are NaN
    column, row = column[chosen].astype(np.intp), row[chosen].astype(np.intp)
    distance = np.linalg.norm(points.xyz[chosen] - camera.position, axis=1)
    seen = shot.depth[row, column]
    hidden = (shot.opacity[row, column] > 0.5) & (seen > 0.0) & (distance > seen * (1.0 + SLACK))
    order = np.argsort(-distance[~hidden], kind="stable")  # the nearest last, over the others
    column, row, chosen = column[~hidden][order], row[~hidden][order], chosen[~hidden][order]
    side = max(1, round(SIZE * height))
    down, right = np.divmod(np.arange(side * side), side)
    rows = np.minimum(row[:, None] + down, height - 1)
    columns = np.minimum(column[:, None] + right, width - 1)
    drawn = picture.astype(np.float32, copy=True)
    if points.rgb is None:
        drawn[rows, columns] = np.array(PLAIN, np.float32) / 255.0
    else:
        drawn[rows, columns] = points.rgb[chosen, None].astype(np.float32) / np.float32(255.0)
    return drawn
