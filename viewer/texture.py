"""Pictures of changing size on the screen, within Dear PyGui's rules for raw textures.

A raw texture keeps a pointer into our array, reads it unchecked as float32 RGBA at every drawn frame, and cannot change its size.
So there is one per size with an array of its own, written only between frames, and one that goes is deleted a frame later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import gui

KEPT = 6
"""Sizes kept alive; the scheduler uses few."""


class Textures:
    """Raw textures by size, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = gui.add_texture_registry()
        self._known: dict[tuple[int, int], tuple[int, NDArray[np.float32]]] = {}
        self._leaving: list[tuple[int, NDArray[np.float32]]] = []

    def show(self, rgba: NDArray[np.float32]) -> int:
        """Copy a picture [H, W, 4] float32 into the texture of its size and return its tag. Between frames, on the GUI's thread."""
        if rgba.dtype != np.float32 or rgba.ndim != 3 or rgba.shape[2] != 4 or 0 in rgba.shape:
            raise ValueError(f"a texture takes float32 [H, W, 4], got {rgba.dtype} {list(rgba.shape)}")
        size = (rgba.shape[1], rgba.shape[0])
        found = self._known.pop(size, None)
        if found is None:
            memory = np.ascontiguousarray(rgba).copy()
            tag = gui.add_raw_texture(*size, memory, format=gui.mvFormat_Float_rgba, parent=self.registry)
            found = (tag, memory)
        else:
            np.copyto(found[1], rgba)
        self._known[size] = found  # the newest last
        return found[0]

    def sweep(self) -> None:
        """After a drawn frame: let go of sizes no longer shown."""
        for tag, _ in self._leaving:
            gui.delete_item(tag)
        self._leaving = []
        while len(self._known) > KEPT:
            self._leaving.append(self._known.pop(next(iter(self._known))))
