"""Pictures of changing size on the screen, within Dear PyGui's rules for raw textures.

A raw texture keeps a pointer into our array, reads it unchecked as float32 RGBA at every drawn frame, and cannot change its size.
One that is deleted keeps its memory. So there are few, of rounded sizes, each with an array of its own that is written
only between frames; a picture fills a corner of one and says which.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import gui

ROUND = 128
"""Sides of textures are multiples of this."""
ROOM = 1.6
"""A texture serves pictures of at least its area over this: all of it is read at every frame."""


class Textures:
    """Raw textures that are used again, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = gui.add_texture_registry()
        self._known: list[tuple[int, NDArray[np.float32]]] = []

    def show(self, rgba: NDArray[np.float32]) -> tuple[int, tuple[float, float]]:
        """Copy a picture [H, W, 4] float32 into a texture; its tag, and where in it (u, v) the picture ends.

        To be called between frames, on the GUI's thread.
        """
        if rgba.dtype != np.float32 or rgba.ndim != 3 or rgba.shape[2] != 4 or 0 in rgba.shape:
            raise ValueError(f"a texture takes float32 [H, W, 4], got {rgba.dtype} {list(rgba.shape)}")
        height, width = rgba.shape[:2]
        tag, memory = self._fitting(height, width)
        rows, columns = memory.shape[:2]
        memory[:height, :width] = rgba
        # What lies beyond the edge is blended into it.
        memory[:height, width : width + 1] = rgba[:, -1:]
        memory[height : height + 1, :width] = rgba[-1:]
        memory[height : height + 1, width : width + 1] = rgba[-1:, -1:]
        return tag, (width / columns, height / rows)

    def _fitting(self, height: int, width: int) -> tuple[int, NDArray[np.float32]]:
        """The smallest texture at hand that a picture fits without much to spare, else a new one."""
        rows, columns = (-(-side // ROUND) * ROUND for side in (height, width))
        most = ROOM * rows * columns * 4
        fitting = [k for k in self._known if k[1].shape[0] >= height and k[1].shape[1] >= width and k[1].size <= most]
        if fitting:
            return min(fitting, key=lambda k: k[1].size)
        memory = np.zeros((rows, columns, 4), np.float32)
        self._known.append((gui.add_raw_texture(columns, rows, memory, format=gui.mvFormat_Float_rgba, parent=self.registry), memory))
        return self._known[-1]
