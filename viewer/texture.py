"""Pictures of changing size on the screen: each is a texture of its own, handed to OpenGL once.

Dear PyGui's raw and dynamic textures look made for this and are not: each of them is copied to OpenGL anew at every drawn
frame, whether it is shown or not, and on Linux what is copied is what was there a frame earlier, so that a picture
arrives late and a new texture is blank in its second frame. Static ones are uploaded in the frame that first draws them,
cost nothing after, and give their memory back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import gui

Corner = tuple[float, float]


class Textures:
    """The texture on the screen, in a registry of its own, and the one before it, which a frame may still need."""

    def __init__(self) -> None:
        self.registry = gui.add_texture_registry()
        self._alive: list[int] = []

    def show(self, rgba: NDArray[np.float32]) -> tuple[int, Corner, Corner]:
        """Make a texture of a picture [H, W, 4] float32 in [0, 1]; its tag, and where in it (u, v) the picture begins and ends.

        To be called between frames, on the GUI's thread, and the tag to be drawn in the place of the one before.
        """
        if rgba.dtype != np.float32 or rgba.ndim != 3 or rgba.shape[2] != 4 or 0 in rgba.shape:
            raise ValueError(f"a texture takes float32 [H, W, 4], got {rgba.dtype} {list(rgba.shape)}")
        # Stretching blends across the edges of a texture into its opposite ones: a rim of the picture's own lies between.
        framed = np.pad(rgba, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows, columns = framed.shape[:2]
        if len(self._alive) == 2:
            gui.delete_item(self._alive.pop(0))
        self._alive.append(int(gui.add_static_texture(columns, rows, framed, parent=self.registry)))
        return self._alive[-1], (1.0 / columns, 1.0 / rows), (1.0 - 1.0 / columns, 1.0 - 1.0 / rows)
