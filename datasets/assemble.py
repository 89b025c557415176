"""From checked frames to a :class:`Scene`: alpha, box, near distance, fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..representations.space import Space, Vec3
from .bounds import Region, given_region, object_region, photo_region
from .fields import flag, number, numbers
from .frames import Frame
from .images import Images, run_parallel
from .scene import Scene, fingerprint

SAMPLED = 24
"""Pictures decoded to learn whether alpha is used and whether the object fits into them."""

KEPT = (
    "applied_transform",
    "applied_scale",
    "ply_file_path",
    "render_aabb",
    "aabb_scale",
    "depth_unit_scale_factor",
    "integer_depth_scale",
    "procedural",
)
"""Informative fields handed on in :attr:`Scene.facts`."""


def assemble(
    name: str,
    root: Path,
    format: str,
    frames: Sequence[Frame],
    split: dict[str, list[int]],
    top: Mapping[str, Any],
    source: str,
    warnings: list[str],
) -> Scene:
    """Build the scene; ``top`` are the file's fields outside its frames.

    Raises:
        UserError: a bad box in the file, or an unreadable picture.
    """
    if not split.get("train"):
        raise UserError(f"{source}: no picture is left for training; give more pictures or another split")
    cameras = [frame.camera for frame in frames]
    transparent = _transparent_colour(top, source)
    images = Images(
        [frame.file for frame in frames],
        [(camera.width, camera.height) for camera in cameras],
        4 if transparent or any(frame.alpha for frame in frames) else 3,
        masks=[frame.keep_masks for frame in frames],
        inverted_masks=[frame.drop_masks for frame in frames],
        transparent=transparent,
    )
    sample = _sample(split["train"])
    has_alpha, complete = _examine_alpha(images, sample)
    if images.channels == 4 and not has_alpha:
        images.channels = 3  # an alpha channel that is opaque everywhere says nothing
    views = [cameras[i] for i in split["train"]]
    space = _given_space(top, has_alpha, source)
    if space is not None:
        region = given_region(views, space, "given by the file")
    elif has_alpha:
        region = _object(views, split["train"], sample, complete)
    else:
        region = photo_region(views)
    facts = {key: top[key] for key in KEPT if key in top}
    return Scene(
        name=name,
        root=root,
        format=format,
        cameras=cameras,
        images=images,
        split=split,
        space=region.space,
        near=region.near,
        has_alpha=has_alpha,
        background="white" if has_alpha else "none",
        up=_up(top, source),
        fingerprint=fingerprint(cameras, images, split),
        warnings=warnings,
        facts=facts | {"box": region.reason},
    )


def _sample(indices: Sequence[int]) -> list[int]:
    """Up to :data:`SAMPLED` of them, evenly spread."""
    count = min(len(indices), SAMPLED)
    return [indices[i] for i in np.linspace(0, len(indices) - 1, count).round().astype(int)]


def _examine_alpha(images: Images, sample: Sequence[int]) -> tuple[bool, list[bool]]:
    """Whether any sampled picture is partly transparent, and which have an empty border (and so show the whole object)."""
    if images.channels == 3:
        return False, [False] * len(sample)
    used = [False] * len(sample)
    complete = [False] * len(sample)

    def examine(k: int) -> None:
        alpha = images.load(sample[k])[..., 3]
        used[k] = bool((alpha < 255).any())
        complete[k] = not (alpha[0].any() or alpha[-1].any() or alpha[:, 0].any() or alpha[:, -1].any())

    run_parallel(examine, len(sample))
    return any(used), complete


def _object(views: Sequence[Any], train: Sequence[int], sample: Sequence[int], complete: Sequence[bool]) -> Region:
    """Only sampled pictures are known to be complete; where all of them are, so, presumably, is the rest."""
    if all(complete):
        return object_region(views)
    known = dict(zip(sample, complete, strict=True))
    return object_region(views, [known.get(i, False) for i in train])


def _transparent_colour(top: Mapping[str, Any], source: str) -> str | None:
    white, black = flag(top, "white_transparent", source), flag(top, "black_transparent", source)
    if white and black:
        raise UserError(f"{source}: white_transparent and black_transparent exclude each other; remove one")
    return "white" if white else "black" if black else None


def _up(top: Mapping[str, Any], source: str) -> Vec3:
    given = numbers(top, "up", source)
    if given is None:
        return 0.0, 0.0, 1.0
    length = float(np.linalg.norm(given))
    if len(given) != 3 or length < 1e-9:
        raise UserError(f"{source}: 'up' must be a direction of 3 numbers, got {given}")
    return given[0] / length, given[1] / length, given[2] / length


def _given_space(top: Mapping[str, Any], has_alpha: bool, source: str) -> Space | None:
    """The box instant-ngp would use, where the file says so itself by ``aabb`` or by ``scale`` and ``offset``.

    Both name what is to fill instant-ngp's unit cube; ``aabb_scale`` times its side is its whole world.
    Photographs have a background beyond any box, so there it becomes the middle of an unbounded space.
    """
    side = number(top, "aabb_scale", source)
    if side is not None and side <= 0.0:
        raise UserError(f"{source}: aabb_scale must be positive, got {side:g}")
    corners = top.get("aabb")
    if corners is not None:
        if not isinstance(corners, list) or len(corners) != 2:
            raise UserError(f"{source}: 'aabb' must be two corners of 3 numbers, got {corners!r:.60}")
        lower, upper = (numbers({"aabb": corner}, "aabb", source) or [] for corner in corners)
    elif top.get("scale") is not None or top.get("offset") is not None:
        scale = number(top, "scale", source)
        scale = 0.33 if scale is None else scale
        raw = top.get("offset")
        offset = (
            [0.5, 0.5, 0.5]
            if raw is None
            else numbers(top, "offset", source)
            if isinstance(raw, list)
            else [number(top, "offset", source)] * 3
        )
        if scale <= 0.0 or offset is None or len(offset) != 3:
            raise UserError(f"{source}: 'scale' must be positive and 'offset' one number or three")
        lower = [(0.0 - (o or 0.0)) / scale for o in offset]
        upper = [(1.0 - (o or 0.0)) / scale for o in offset]
    else:
        return None
    if len(lower) != 3 or len(upper) != 3 or any(b - a <= 1e-9 for a, b in zip(lower, upper, strict=True)):
        raise UserError(f"{source}: the box from {lower} to {upper} is empty; its first corner must be the lower one")
    if has_alpha and side is not None and corners is None:
        middle = [0.5 * (a + b) for a, b in zip(lower, upper, strict=True)]
        half = [0.5 * side * (b - a) for a, b in zip(lower, upper, strict=True)]
        lower = [m - h for m, h in zip(middle, half, strict=True)]
        upper = [m + h for m, h in zip(middle, half, strict=True)]
    return Space((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]), unbounded=not has_alpha)
