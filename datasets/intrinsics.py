"""Focal lengths, principal point and lens from the fields of a frame and of its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError, did_you_mean
from ..render.distortion import Distortion
from .fields import flag, number, numbers, short

PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")
FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
OTHER = ("EQUIRECTANGULAR", "OMNIDIRECTIONALSTEREO_L", "OMNIDIRECTIONALSTEREO_R", "VR180_L", "VR180_R", "ORTHOPHOTO", "FISHEYE624")


@dataclass(frozen=True)
class Intrinsics:
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Distortion | None


def read_intrinsics(top: Mapping[str, Any], frame: Mapping[str, Any], width: int, height: int, source: str) -> Intrinsics:
    """Intrinsics of one picture of ``width`` x ``height`` pixels.

    A frame's field wins over the file's. Within either, an axis takes ``x_fov`` (degrees), else
    ``fl_x`` (pixels), else ``camera_angle_x`` (radians), each axis on its own; an axis with none copies the other.
    ``w`` and ``h`` must agree with the picture. The principal point defaults to the centre.

    Raises:
        UserError: no focal length, one that is not positive, a size that is not the picture's, an unknown lens.
    """
    for key, actual in (("w", width), ("h", height)):
        said = _lookup(top, frame, key, source)
        if said is not None and round(said) != actual:
            raise UserError(
                f"{source}: the picture is {width}x{height} pixels but {key} says {said:g}; "
                "give the pictures the poses were made for, or scale w, h, fl_x, fl_y, cx and cy to their size"
            )
    fx = _focal(frame, "x", width, source) or _focal(top, "x", width, source)
    fy = _focal(frame, "y", height, source) or _focal(top, "y", height, source)
    if fx is None and fy is None:
        raise UserError(f"{source}: no focal length; add fl_x (pixels) or camera_angle_x (radians)")
    cx, cy = _lookup(top, frame, "cx", source), _lookup(top, frame, "cy", source)
    return Intrinsics(
        fx if fx is not None else fy or 0.0,
        fy if fy is not None else fx or 0.0,
        width / 2.0 if cx is None else cx,
        height / 2.0 if cy is None else cy,
        read_distortion(top, frame, source),
    )


def _lookup(top: Mapping[str, Any], frame: Mapping[str, Any], key: str, source: str) -> float | None:
    own = number(frame, key, source)
    return number(top, key, source) if own is None else own


def _focal(data: Mapping[str, Any], axis: str, size: int, source: str) -> float | None:
    """Focal length in pixels along one axis from one object, or None."""
    degrees = number(data, f"{axis}_fov", source)
    pixels = number(data, f"fl_{axis}", source)
    radians = number(data, f"camera_angle_{axis}", source)
    if degrees is None and pixels is not None:
        if pixels <= 0.0:
            raise UserError(f"{source}: fl_{axis} must be positive, got {pixels:g}")
        return pixels
    name, angle, half_turn = (f"{axis}_fov", degrees, 180.0) if degrees is not None else (f"camera_angle_{axis}", radians, math.pi)
    if angle is None:
        return None
    if not 0.0 < angle < half_turn:
        unit = "degrees" if degrees is not None else "radians"
        raise UserError(f"{source}: {name} must lie between 0 and {half_turn:.4g} {unit}, got {angle:g}")
    return 0.5 * size / math.tan(0.5 * angle / half_turn * math.pi)


def read_distortion(top: Mapping[str, Any], frame: Mapping[str, Any], source: str) -> Distortion | None:
    """The lens, or None for a perfect pinhole.

    ``distortion_params`` replaces k1, k2, k3, k4, p1, p2 (this order). A fisheye is said by
    ``camera_model`` or instant-ngp's ``is_fisheye`` and reads k1 ... k4.
    """
    model = frame.get("camera_model", top.get("camera_model"))
    fisheye = flag(frame if "is_fisheye" in frame else top, "is_fisheye", source)
    if model is not None:
        if not isinstance(model, str):
            raise UserError(f"{source}: 'camera_model' must be a name, got {short(model)}")
        name = model.upper()
        if name in OTHER:
            raise UserError(f"{source}: camera_model {model!r} is not supported; convert the pictures to PINHOLE, OPENCV or OPENCV_FISHEYE")
        if name not in PERSPECTIVE + FISHEYE:
            raise UserError(f"{source}: unknown camera_model {model!r}; {did_you_mean(name, PERSPECTIVE + FISHEYE)}")
        fisheye = fisheye or name in FISHEYE
    given = numbers(frame if "distortion_params" in frame else top, "distortion_params", source)
    if given is None:
        names = ("k1", "k2", "k3", "k4", "p1", "p2")
        given = [_lookup(top, frame, key, source) or 0.0 for key in names]
    elif len(given) not in ((4, 6) if fisheye else (6,)):
        raise UserError(f"{source}: 'distortion_params' must hold k1, k2, k3, k4, p1, p2, got {len(given)} numbers")
    if fisheye:
        return Distortion("fisheye", tuple(given[:4]))
    return Distortion("opencv", tuple(given)) if any(given) else None
