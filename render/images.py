"""Pictures of what was rendered, and their files.

Written with imageio's Pillow plugin, always as PNG, and always whole: a picture appears under its name
only when it is complete.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import imageio.v3 as iio
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import UserError
from ..representations.container import atomic_file
from .types import Rendering

__all__ = ["KINDS", "Kind", "colormap", "depth_range", "is_complete_png", "picture", "save_depth", "save_image", "to_bytes"]

Kind = Literal["rgb", "rgba", "depth", "normals", "opacity"]
KINDS: tuple[Kind, ...] = ("rgb", "rgba", "depth", "normals", "opacity")
"""The pictures a rendering holds; rgba is straight (not premultiplied) and wants a rendering without background."""

Bytes = NDArray[np.uint8]

_RAINBOW = np.array(
    [
        (0.19, 0.07, 0.23),
        (0.25, 0.27, 0.68),
        (0.26, 0.52, 0.97),
        (0.13, 0.74, 0.87),
        (0.16, 0.91, 0.62),
        (0.53, 0.99, 0.34),
        (0.80, 0.91, 0.21),
        (0.98, 0.72, 0.20),
        (0.97, 0.45, 0.11),
        (0.81, 0.20, 0.05),
        (0.48, 0.02, 0.01),
    ]
)
"""Dark violet, blue, green, yellow, red: brightest in the middle, no two places alike."""


def colormap(values: ArrayLike) -> NDArray[np.float64]:
    """Numbers in [0, 1] of any shape to colours [..., 3]; others are clamped, NaN counts as 0."""
    place = np.clip(np.nan_to_num(np.asarray(values, np.float64)), 0.0, 1.0) * (len(_RAINBOW) - 1)
    return np.stack([np.interp(place, np.arange(len(_RAINBOW)), _RAINBOW[:, channel]) for channel in range(3)], -1)


def to_bytes(image: Tensor | ArrayLike) -> Bytes:
    """Numbers in [0, 1] to bytes, rounded to nearest and clamped, NaN to 0; uint8 passes unchanged. Any shape."""
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if values.dtype == np.uint8:
        return values
    rounded: Bytes = np.rint(np.clip(np.nan_to_num(values), 0.0, 1.0) * 255.0).astype(np.uint8)
    return rounded


def depth_range(rendering: Rendering, low: float = 0.01, high: float = 0.99) -> tuple[float, float]:
    """Distances between which most of what was hit lies (quantiles), world units; (0, 1) where nothing was hit."""
    depth = rendering.depth[rendering.opacity > 0.5].detach().cpu().double().numpy()
    depth = depth[np.isfinite(depth)]
    if depth.size == 0:
        return 0.0, 1.0
    near, far = np.quantile(depth, (low, high)).tolist()
    return near, far if far > near else near + 1e-6 * max(1.0, abs(near))


def picture(rendering: Rendering, kind: Kind = "rgb", depths: tuple[float, float] | None = None) -> Bytes:
    """One of :data:`KINDS` as bytes, [H, W, 3] (rgba: [H, W, 4], opacity: [H, W]).

    Args:
        depths: the distances painted violet (near) and red (far); None: :func:`depth_range` of this rendering.
            Films need one range for all their frames.

    Raises:
        ValueError: an unknown kind, or normals that were not rendered.
    """
    opacity = rendering.opacity.detach().cpu().numpy().astype(np.float64)
    if kind == "rgb":
        return to_bytes(rendering.rgb)
    if kind == "rgba":
        color = rendering.rgb.detach().cpu().numpy() / np.maximum(opacity, 1e-6)[..., None]
        return to_bytes(np.concatenate([color, opacity[..., None]], -1))
    if kind == "opacity":
        return to_bytes(opacity)
    if kind == "depth":
        near, far = depths or depth_range(rendering)
        scaled = (rendering.depth.detach().cpu().numpy().astype(np.float64) - near) / (far - near)
        return to_bytes(colormap(scaled) * opacity[..., None])
    if kind == "normals":
        if rendering.normals is None:
            raise ValueError("this rendering has no normals; render with RenderSettings(normals=True)")
        return to_bytes((0.5 * rendering.normals.detach().cpu().numpy() + 0.5) * opacity[..., None])
    raise ValueError(f"unknown kind of picture {kind!r}; there are {', '.join(KINDS)}")


def save_image(path: str | Path, image: Tensor | ArrayLike) -> None:
    """Write a PNG: [H, W], [H, W, 3] or [H, W, 4], numbers in [0, 1] or uint8 (or uint16 [H, W], kept as 16 bit).

    Raises:
        UserError: the file's name does not end in .png, or it cannot be written.
        ValueError: a shape no picture has.
    """
    path = Path(path)
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    pixels = values if values.dtype == np.uint16 and values.ndim == 2 else to_bytes(values)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise ValueError(f"a picture is [H, W], [H, W, 3] or [H, W, 4], got {list(pixels.shape)}")
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are written as PNG; give the file a name that ends in .png")
    encoded = iio.imwrite("<bytes>", pixels, plugin="pillow", extension=".png")
    with atomic_file(path) as file:
        file.write(encoded)


def save_depth(path: str | Path, rendering: Rendering, unit: float) -> None:
    """Write distances as a 16-bit PNG: pixel · ``unit`` is the distance in world units, 0 where nothing was hit.

    Distances beyond 65535 · unit are written as 65535. Raises UserError as :func:`save_image`.
    """
    if not (unit > 0.0 and math.isfinite(unit)):
        raise ValueError(f"the unit of a depth picture must be positive, got {unit}")
    depth = np.nan_to_num(rendering.depth.detach().cpu().numpy().astype(np.float64), posinf=math.inf) / unit
    hit = rendering.opacity.detach().cpu().numpy() > 0.5
    save_image(path, np.where(hit, np.clip(np.rint(depth), 1, 65535), 0).astype(np.uint16))


def is_complete_png(path: str | Path, width: int, height: int) -> bool:
    """Whether a file is a PNG of that size with its end in place; cheap, reads head and tail only."""
    try:
        with open(path, "rb") as file:
            head = file.read(24)
            file.seek(-12, 2)
            tail = file.read(12)
    except OSError:
        return False
    size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return head.startswith(b"\x89PNG\r\n\x1a\n") and size == (width, height) and tail[4:8] == b"IEND"
