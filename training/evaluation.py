"""How good a field is: held-out views against their photographs, with the protocol said."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.plenoptic import moving_pixels
from ..datasets.scene import Scene
from ..errors import UserError
from ..render.renderer import render_image
from ..render.types import Rendering, RenderSettings
from ..representations.field import Field
from .metrics import mse_to_psnr, psnr, ssim

LPIPS_NOTE = "not computed"


@dataclass(frozen=True)
class ImageScore:
    name: str
    psnr: float
    ssim: float
    seconds: float
    psnr_moving: float | None = None
    """Of the pixels where something moves, where the scene knows them and there are some."""


@dataclass(frozen=True)
class Evaluation:
    """Mean of per-image scores; ``protocol`` names all that moves such numbers."""

    mean: dict[str, Any]
    images: list[ImageScore]
    protocol: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "images": [asdict(i) for i in self.images], "protocol": self.protocol}


def ground_truth(scene: Scene, index: int, background: float | None) -> Tensor:
    """Photograph [H, W, 3] in [0, 1], over a grey level where it carries alpha."""
    pixels = torch.tensor(scene.images.load(index)).float() / 255.0
    if pixels.shape[-1] == 4:
        if background is None:
            raise ValueError("an image with alpha needs a background")
        return background + pixels[..., 3:] * (pixels[..., :3] - background)
    return pixels[..., :3]


def require_split(scene: Scene, split: str) -> list[int]:
    """Indices of the images of a split.

    Raises:
        UserError: the scene has no such split, or it is empty.
    """
    indices = scene.split.get(split, [])
    if not indices:
        raise UserError(f"{scene.root}: no images in split {split!r}; it has {', '.join(k for k, v in sorted(scene.split.items()) if v)}")
    return indices


def evaluate(
    field: Field,
    scene: Scene,
    split: str = "test",
    settings: RenderSettings | None = None,
    *,
    limit: int | None = None,
    on_image: Callable[[int, int, ImageScore, Rendering], None] | None = None,
) -> Evaluation:
    """Render every view of a split and score it; each view's render time is measured.

    Raises:
        UserError: the scene has no such split, or it is empty.
    """
    indices = require_split(scene, split)[:limit]
    settings = settings or eval_settings(field, scene)
    grey = {"white": 1.0, "black": 0.0}.get(settings.background)
    scores: list[ImageScore] = []
    moving = Region()
    for count, index in enumerate(indices, 1):
        camera = scene.cameras[index]
        start = time.perf_counter()
        with torch.no_grad():
            rendering = render_image(field, camera, settings)
        image = rendering.rgb.clamp(0.0, 1.0).cpu()
        seconds = time.perf_counter() - start  # only now is a GPU done
        target = ground_truth(scene, index, grey)
        part = moving.add(image, target, moving_pixels(scene.images.files[index]))
        scores.append(ImageScore(camera.name or str(index), psnr(image, target), ssim(image, target), seconds, part))
        if on_image is not None:
            on_image(count, len(indices), scores[-1], rendering)
    n = len(scores)
    mean = {
        "psnr": sum(s.psnr for s in scores) / n,
        "ssim": sum(s.ssim for s in scores) / n,
        "lpips": None,
        "seconds": sum(s.seconds for s in scores) / n,
        **moving.summary(),
    }
    protocol = {
        "split": split,
        "images": n,
        "size": [scene.cameras[indices[0]].width, scene.cameras[indices[0]].height],
        "background": settings.background if scene.has_alpha else "none (opaque photographs)",
        "alpha": "straight alpha composited over the background in sRGB" if scene.has_alpha else "none",
        "psnr": "mean of per-image PSNR, unquantised float render clamped to [0, 1] against 8-bit photograph",
        "ssim": "11x11 Gaussian window, sigma 1.5, data range 1, mean over RGB",
        "lpips": LPIPS_NOTE,
    }
    return Evaluation(mean, scores, protocol)


class Region:
    """Squared errors of part of many pictures, and of the rest."""

    def __init__(self) -> None:
        self.inside, self.outside, self.count, self.others = 0.0, 0.0, 0, 0

    def add(self, image: Tensor, target: Tensor, mask: NDArray[np.bool_] | None) -> float | None:
        """Take in one picture; PSNR of its part, None where it has none."""
        if mask is None or mask.shape != tuple(image.shape[:2]):
            return None
        errors, where = (image.double() - target.double()).square().mean(-1), torch.from_numpy(mask)
        here, there = float(errors[where].sum()), float(errors[~where].sum())
        count = int(where.sum())
        self.inside, self.outside = self.inside + here, self.outside + there
        self.count, self.others = self.count + count, self.others + mask.size - count
        return mse_to_psnr(here / count) if count else None

    def summary(self) -> dict[str, Any]:
        """PSNR of the mean squared error over all pixels that move, over all others, and how many move."""
        if not self.count:
            return {}
        return {
            "psnr_moving": mse_to_psnr(self.inside / self.count),
            "psnr_still": mse_to_psnr(self.outside / max(self.others, 1)),
            "moving_share": self.count / (self.count + self.others),
        }


def eval_settings(field: Field, scene: Scene | None = None) -> RenderSettings:
    """The settings a field is judged by: white behind alpha images, its recorded near distance, mid-step samples."""
    return RenderSettings(
        background=field.metadata.get("background", "white"),
        near=float(field.metadata.get("near", 0.0)),
        steps=int(field.metadata.get("steps", field.render_steps)),
    )
