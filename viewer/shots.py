"""What one camera sees of one source, and how it is shown: modes, background, exposure. No GUI; NumPy float32 throughout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.points import Points
from ..errors import UserError
from ..kernels.cancel import CancelFlag
from ..render.camera import Camera
from ..render.images import colormap
from ..render.renderer import background_color, render_image
from ..render.types import RenderSettings
from ..representations.field import Field
from .cells import render_cells, saliency_bits
from .moments import has_parts, moving_bits

Pixels = NDArray[np.float32]

Mode = Literal["color", "depth", "normals", "opacity", "cost", "occupancy", "saliency", "static", "dynamic", "moving"]
MODES: tuple[Mode, ...] = ("color", "depth", "normals", "opacity", "cost", "occupancy", "saliency", "static", "dynamic", "moving")
GRIDS: tuple[Mode, ...] = ("occupancy", "saliency", "moving")
"""Modes that show cells of a grid, not the field itself."""
MODE_NAMES: dict[Mode, str] = {
    "color": "Colour",
    "depth": "Depth",
    "normals": "Normals",
    "opacity": "Opacity",
    "cost": "Cost (samples)",
    "occupancy": "Occupancy grid",
    "saliency": "Saliency mask",
    "static": "What stands still",
    "dynamic": "What moves",
    "moving": "Cells that move",
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.22, 0.23, 0.25),
}
TONES = ("standard", "filmic")

_COLORS: Pixels = colormap(np.linspace(0.0, 1.0, 256)).astype(np.float32)
CHECKER = 12
"""Side of the squares that stand for nothing, pixels of the window."""


@dataclass(frozen=True)
class Look:
    """How a shot is shown; changing it renders nothing anew."""

    mode: Mode = "color"
    background: str = "white"
    """A name of :data:`BACKGROUNDS`, "checker", or "learned"."""
    exposure: float = 0.0
    """Stops; each doubles the light."""
    tone: str = "standard"
    """standard shows colours as the field holds them; filmic rolls bright light off."""
    points: Points | None = None
    """Sparse points drawn over the picture."""


@dataclass(frozen=True)
class Shot:
    """Premultiplied colour over nothing, and what else a camera saw; means over ``samples`` anti-aliasing samples."""

    rgb: Pixels  # [H, W, 3]
    opacity: Pixels  # [H, W]
    depth: Pixels  # [H, W] world units along the ray, of the first sample
    normals: Pixels | None = None  # [H, W, 3]
    cost: Pixels | None = None  # [H, W] field evaluations, of the first sample
    learned: tuple[float, float, float] | None = None
    """The field's own background."""
    samples: int = 1

    def with_sample(self, other: Shot) -> Shot:
        """The mean of this shot's samples and one more."""
        n = self.samples
        weight = np.float32(1.0 / (n + 1))

        def mean(a: Pixels, b: Pixels) -> Pixels:
            return a + weight * (b - a)

        normals = None if self.normals is None or other.normals is None else mean(self.normals, other.normals)
        return replace(self, rgb=mean(self.rgb, other.rgb), opacity=mean(self.opacity, other.opacity), normals=normals, samples=n + 1)


def shoot(field: Field, camera: Camera, settings: RenderSettings, mode: Mode, cancel: CancelFlag | None = None) -> Shot:
    """Render what a mode needs.

    Raises:
        UserError: the field has nothing that the mode shows.
        Cancelled: ``cancel`` was set meanwhile.
    """
    if mode in GRIDS:
        rgb, depth, hit = render_cells(field, grid_of(field, mode), camera, settings, cancel)
        return Shot(_array(rgb), _array(hit), _array(depth))
    seen = render_image(field, camera, replace(settings, background="none", normals=mode == "normals"), cancel=cancel)
    learned = background_color(field, "learned") if field.background is not None else None
    return Shot(
        _array(seen.rgb),
        _array(seen.opacity),
        _array(seen.depth),
        None if seen.normals is None else _array(seen.normals),
        None if seen.cost is None else _array(seen.cost),
        None if learned is None else (float(learned[0]), float(learned[1]), float(learned[2])),
    )


def grid_of(field: Field, mode: Mode) -> Tensor:
    """The cells [R, R, R] that a mode of :data:`GRIDS` shows.

    Raises:
        UserError: the field has no such grid.
    """
    bits = field.occupancy.bits if mode == "occupancy" else saliency_bits(field) if mode == "saliency" else moving_bits(field)
    if bits is None:
        raise UserError(why_not_shown(field, mode))
    return bits


def available_modes(field: Field) -> tuple[Mode, ...]:
    """What can be shown of a field."""
    missing: set[Mode] = set()
    if saliency_bits(field) is None:
        missing.add("saliency")
    if not has_parts(field):
        missing |= {"static", "dynamic"}
    if moving_bits(field) is None:
        missing.add("moving")
    return tuple(mode for mode in MODES if mode not in missing)


def why_not_shown(field: Field, mode: Mode) -> str:
    """Why a mode is not among :func:`available_modes`."""
    if mode == "saliency":
        return f"this {field.family} field has no saliency grid; fieldmorph train --compress hollow makes one that has"
    return f"this {field.family} field does not tell what moves from what stands still"


def photo_shot(image: NDArray[np.uint8], width: int, height: int) -> Shot:
    """A photograph [h, w, 3 or 4] as its camera ``fitted`` to a view would take it: scaled by the height, cut or bordered at the sides."""
    from PIL import Image

    shown = Image.fromarray(image).convert("RGBA").convert("RGBa")  # resampling wants premultiplied colours
    across = max(1, round(image.shape[1] * height / image.shape[0]))
    shown = shown.resize((across, height), Image.Resampling.BOX if height < image.shape[0] else Image.Resampling.BICUBIC)
    pixels = np.asarray(shown, np.float32) / np.float32(255.0)
    canvas = np.zeros((height, width, 4), np.float32)
    left = (width - across) // 2
    to, source = max(0, left), max(0, -left)
    count = min(width - to, across - source)
    canvas[:, to : to + count] = pixels[:, source : source + count]
    opacity = np.ascontiguousarray(canvas[..., 3])
    return Shot(np.ascontiguousarray(canvas[..., :3]), opacity, np.zeros_like(opacity))


def shade(shot: Shot, look: Look, scale: float = 1.0) -> Pixels:
    """The picture [H, W, 3] in [0, 1] that a look makes of a shot; ``scale`` is its resolution relative to the window's."""
    opacity = shot.opacity[..., None]
    if look.mode == "depth":
        return _heat(_spread(shot.depth, shot.opacity)) * opacity
    if look.mode == "normals" and shot.normals is not None:
        return (0.5 * shot.normals + 0.5) * opacity
    if look.mode == "opacity":
        return np.repeat(opacity, 3, -1)
    if look.mode == "cost" and shot.cost is not None:
        return _heat(shot.cost / max(1.0, float(np.quantile(shot.cost[::4, ::4], 0.995))))
    shown = shot.rgb if look.mode in GRIDS else expose(shot.rgb, shot.opacity, look)
    return shown + (1.0 - opacity) * backdrop(shot, look, scale)


def expose(rgb: Pixels, opacity: Pixels, look: Look) -> Pixels:
    """Premultiplied sRGB under another exposure and tone curve; unchanged colours pass untouched."""
    if look.exposure == 0.0 and look.tone == "standard":
        return rgb
    alpha = np.maximum(opacity, np.float32(1e-6))[..., None]
    straight = np.clip(rgb / alpha, 0.0, 1.0)
    light: NDArray[Any] = np.where(straight <= 0.04045, straight / 12.92, ((straight + 0.055) / 1.055) ** 2.4) * 2.0**look.exposure
    if look.tone == "filmic":
        # Narkowicz' fit of the ACES curve, so scaled that it keeps middle grey where it was.
        x = 0.76 * light
        light = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)
    light = np.clip(light, 0.0, 1.0)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1.0 / 2.4) - 0.055)
    return (shown * opacity[..., None]).astype(np.float32)


def backdrop(shot: Shot, look: Look, scale: float) -> Pixels:
    """What shows behind: [3], or [H, W, 3] for the checker."""
    if look.background == "checker":
        height, width = shot.opacity.shape
        side = max(1, round(CHECKER * scale))
        odd = (np.arange(height)[:, None] // side + np.arange(width)[None] // side) % 2
        return np.repeat((0.42 + 0.1 * odd)[..., None], 3, -1).astype(np.float32)
    if look.background == "learned" and shot.learned is not None:
        return np.array(shot.learned, np.float32)
    return np.array(BACKGROUNDS.get(look.background, BACKGROUNDS["white"]), np.float32)


def difference(a: Pixels, b: Pixels, gain: float) -> Pixels:
    """Mean absolute difference of two pictures [H, W, 3], times ``gain``, as heat."""
    return _heat(np.abs(a - b).mean(-1) * gain)


def picture_psnr(a: Pixels, b: Pixels) -> float:
    """PSNR in dB between two pictures in [0, 1]; 100 where they are equal."""
    error = float(np.square(np.clip(a, 0.0, 1.0) - np.clip(b, 0.0, 1.0), dtype=np.float64).mean())
    return 100.0 if error < 1e-10 else -10.0 * float(np.log10(error))


def _heat(values: Pixels) -> Pixels:
    index = (np.clip(np.nan_to_num(values), 0.0, 1.0) * 255.0).astype(np.uint8)
    return _COLORS[index]


def _spread(depth: Pixels, opacity: Pixels) -> Pixels:
    """Depth between the nearest and farthest hundredth of what was hit, as [0, 1]."""
    sparse = depth[::4, ::4][opacity[::4, ::4] > 0.5]
    near, far = np.quantile(sparse, (0.01, 0.99)) if sparse.size else (0.0, 1.0)
    return (depth - np.float32(near)) / np.float32(max(far - near, 1e-6))


def _array(tensor: Tensor) -> Pixels:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
