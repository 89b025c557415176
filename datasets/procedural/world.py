"""The scene as an object: exact geometry to measure against, and pictures of it from any camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...render.camera import Camera, pixel_centres
from ..images import run_parallel
from .layout import Model, build_model

Array = NDArray[np.float64]
Picture = NDArray[np.float32]

EXTENT = 1.02
"""Half side of the cube around the origin that holds everything."""
CELLS = 96
"""Cells per axis of the empty-space grid."""
CHUNK = 4096
"""Rays per unit of parallel work."""
CONTRAST = 0.045
"""Pixels that differ by more than this from a neighbour, in display values, are traced again with more rays."""


@dataclass(frozen=True)
class Trace:
    """What a camera sees of the exact scene."""

    rgba: Picture
    """[H, W, 4] display sRGB, straight alpha; alpha is the covered share of the pixel."""
    depth: Picture
    """[H, W] distance along the pixel-centre ray in world units, 0 where it hits nothing."""
    normals: Picture
    """[H, W, 3] unit surface normals in world axes at pixel centres, 0 where nothing was hit."""
    objects: NDArray[np.int16]
    """[H, W] index into :attr:`Geometry.names`, or -1."""


class Geometry:
    """The exact scene of a seed. Distances and positions are world units; z points up."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.model: Model = build_model(seed)
        if len(self.model.names) > 64:
            raise ValueError("the tracer's cells hold at most 64 objects")

    @property
    def names(self) -> tuple[str, ...]:
        """The objects."""
        return self.model.names

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Corners of a box that holds every surface, [3] and [3]."""
        return np.full(3, -EXTENT), np.full(3, EXTENT)

    @property
    def _tables(self) -> tuple[Array, Array]:
        return self.model.objects, self.model.profiles

    def nearest(self, points: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
        """Signed distance [N] of points [N, 3] to the nearest object, and which one it is [N]."""
        from .tracer import union_distance

        rows = np.ascontiguousarray(np.asarray(points, np.float64).reshape(-1, 3))
        if not np.isfinite(rows).all():
            raise ValueError("points must be finite")
        distance, which = np.empty(len(rows)), np.empty(len(rows), np.int64)
        pieces = range(0, len(rows), CHUNK)

        def work(k: int) -> None:
            part = slice(pieces[k], pieces[k] + CHUNK)
            union_distance(rows[part], *self._tables, distance[part], which[part])

        run_parallel(work, len(pieces))
        return distance, which

    def distance(self, points: ArrayLike) -> Array:
        """Signed distance [N] of points [N, 3] to the surface, negative inside.

        The zero set is exact. Outside, the value never exceeds the true distance, and equals it
        except near gears; inside, its magnitude never exceeds the true depth.
        """
        return self.nearest(points)[0]

    def inside(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of the points [N, 3] lies in matter, bool [N]."""
        return self.distance(points) < 0.0

    @cached_property
    def _grid(self) -> tuple[float, float, Array, NDArray[np.uint64]]:
        from .tracer import REACH, fill_grid

        cell = 2.0 * EXTENT / CELLS
        centre = np.empty((CELLS,) * 3)
        members = np.empty((CELLS,) * 3, np.uint64)
        run_parallel(lambda k: fill_grid(-EXTENT, cell, k, k + 1, *self._tables, centre, members, REACH * cell), CELLS // 4)
        return -EXTENT, cell, centre, members

    def prepare(self) -> None:
        """Compile the tracer and fill its grid, so that the first picture does not wait."""
        self.trace_rays(np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]]))

    def trace_rays(
        self, origins: ArrayLike, directions: ArrayLike, workers: int | None = None
    ) -> tuple[Picture, Picture, Picture, NDArray[np.int16]]:
        """Display colour with hit as alpha [N, 4], distance [N], normal [N, 3] and object [N] of rays with unit directions."""
        from .tracer import trace_rays

        start = np.ascontiguousarray(origins, np.float64)
        along = np.ascontiguousarray(directions, np.float64)
        count = len(start)
        rgba, depth = np.empty((count, 4), np.float32), np.empty(count, np.float32)
        normals, which = np.empty((count, 3), np.float32), np.empty(count, np.int16)
        grid = self._grid
        pieces = range(0, count, CHUNK)

        def work(k: int) -> None:
            last = min(pieces[k] + CHUNK, count)
            trace_rays(start, along, pieces[k], last, *grid, *self._tables, rgba, depth, normals, which)

        run_parallel(work, len(pieces), workers=workers)
        return rgba, depth, normals, which

    def trace(self, camera: Camera, *, samples: int = 3, workers: int | None = None) -> Trace:
        """Picture, depth and normals from a camera, lens distortion included.

        Pixels with an edge or strong contrast are averaged over up to ``samples`` x ``samples`` rays, in display
        values, as composited radiance fields are; 1 traces pixel centres only.
        """
        width, height = camera.width, camera.height
        xy = pixel_centres(width, height)
        rays = camera.rays(xy)
        rgba, depth, normals, which = self.trace_rays(rays.origins.numpy(), rays.directions.numpy(), workers)
        if samples > 1:
            rough = np.flatnonzero(_contrast(rgba.reshape(height, width, 4), which.reshape(height, width)))
            steps = (np.arange(samples) + 0.5) / samples - 0.5
            offsets = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
            corners = np.abs(offsets).min(1) == np.abs(offsets).max()
            first = self._colours(camera, xy[rough], offsets[corners], workers)
            known = np.concatenate([first, rgba[rough, None]], 1) if samples % 2 else first
            spread = known.max(1) - known.min(1)
            uneven = np.flatnonzero(spread.max(1) > CONTRAST)
            rest = offsets[~corners & (np.abs(offsets).max(1) > 0.0)]
            rgba[rough] = _average(known)
            rgba[rough[uneven]] = _average(np.concatenate([known[uneven], self._colours(camera, xy[rough[uneven]], rest, workers)], 1))
        return Trace(
            rgba.reshape(height, width, 4), depth.reshape(height, width), normals.reshape(height, width, 3), which.reshape(height, width)
        )

    def _colours(self, camera: Camera, xy: Array, offsets: Array, workers: int | None) -> Picture:
        """Rays at every offset from every pixel position: [N, offsets, 4]."""
        rays = camera.rays((xy[:, None] + offsets).reshape(-1, 2))
        return self.trace_rays(rays.origins.numpy(), rays.directions.numpy(), workers)[0].reshape(len(xy), len(offsets), 4)


def _average(colours: Picture) -> Picture:
    """Straight-alpha mean over axis 1 of hits [N, S, 4] whose misses are black with alpha 0."""
    hits = colours[..., 3:].sum(1)
    mean: Picture = np.concatenate([colours[..., :3].sum(1) / np.maximum(hits, 1.0), hits / colours.shape[1]], -1)
    return mean


def _contrast(rgba: Picture, which: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Pixels that differ from one of their eight neighbours in object or by more than :data:`CONTRAST`, bool [H, W]."""
    marked = np.zeros(which.shape, bool)
    height, width = which.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width + min(0, dx)))
        differs = (which[here] != which[there]) | (np.abs(rgba[here] - rgba[there]).max(-1) > CONTRAST)
        marked[here] |= differs
        marked[there] |= differs
    return marked


@lru_cache(maxsize=4)
def geometry(seed: int = 0) -> Geometry:
    """The exact scene of a seed; made once per process."""
    return Geometry(seed)
