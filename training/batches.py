"""Where a training step's rays and their colours come from: the pixels of posed photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.scene import Scene
from ..errors import UserError
from ..render.camera import CameraSet
from ..render.types import Rays


@dataclass
class Batch:
    rays: Rays
    rgb: Tensor  # [N, 3] in [0, 1], straight
    alpha: Tensor | None  # [N], or None where every pixel is opaque

    def over(self, background: Tensor) -> Tensor:
        """Colours [N, 3] over a background [3] or [N, 3]."""
        if self.alpha is None:
            return self.rgb
        return background + self.alpha[:, None] * (self.rgb - background)


class PhotoBatches:
    """Uniformly random pixels of a scene's images, with their rays.

    Pixels stay uint8 (memory-mapped where they are many); images may differ in size.
    Masked pixels are never drawn.
    """

    def __init__(self, scene: Scene, split: str, device: torch.device) -> None:
        indices = scene.split.get(split, [])
        if not indices:
            raise UserError(f"{scene.root}: the scene has no images in its {split!r} split; splits are {', '.join(sorted(scene.split))}")
        self.device = device
        cameras = [scene.cameras[i] for i in indices]
        self.cameras = CameraSet(cameras).to(device)
        self.pixels, channels = scene.images.load_flat(indices)  # [P, C] uint8, images one after the other
        self.channels = channels
        sizes = np.array([c.width * c.height for c in cameras], dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(sizes)])
        self.widths = np.array([c.width for c in cameras], dtype=np.int64)
        self.equal = bool((sizes == sizes[0]).all() and (self.widths == self.widths[0]).all())
        self.valid = scene.images.valid_pixels(indices)  # [V] int64 flat indices, or None: all

    @property
    def count(self) -> int:
        return len(self.pixels) if self.valid is None else len(self.valid)

    def next(self, rays: int, generator: torch.Generator) -> Batch:
        """Draw ``rays`` pixels with replacement."""
        pick = torch.randint(self.count, (rays,), generator=generator).numpy()
        if self.valid is not None:
            pick = self.valid[pick]
        if self.equal:
            size = self.first[1]
            camera, inside = np.divmod(pick, size)
            y, x = np.divmod(inside, self.widths[0])
        else:
            camera = np.searchsorted(self.first, pick, side="right") - 1
            y, x = np.divmod(pick - self.first[camera], self.widths[camera])
        xy = torch.from_numpy(np.stack([x, y], 1).astype(np.float32) + 0.5)
        bundle = self.cameras.rays(torch.from_numpy(camera).to(self.device), xy.to(self.device))
        values = torch.from_numpy(np.ascontiguousarray(self.pixels[pick])).to(self.device).float().div_(255.0)
        return Batch(bundle, values[:, :3], values[:, 3] if self.channels == 4 else None)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep: nothing, the trainer's generator decides every draw."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`."""
