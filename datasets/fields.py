"""The vocabulary of ``transforms.json`` as instant-ngp, nerfstudio, Blender and D-NeRF write it.

Every field is in exactly one of three tables: used, informative (kept, changes nothing here),
or unsupported (its presence is said by name). Whatever is in none is unknown, which is said too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UserError, did_you_mean

LENS = frozenset(
    "fl_x fl_y camera_angle_x camera_angle_y x_fov y_fov cx cy w h k1 k2 k3 k4 p1 p2 distortion_params camera_model is_fisheye".split()
)
"""Intrinsics: at the top for all frames, or in a frame, which wins."""

USED_TOP = LENS | frozenset(
    "frames n_frames sharpness_discard_threshold aabb aabb_scale scale offset up white_transparent black_transparent "
    "train_filenames val_filenames test_filenames ply_file_path".split()
)
USED_FRAME = LENS | frozenset("file_path transform_matrix transform_matrix_start transform_matrix_end sharpness mask_path time".split())

INFORMATIVE_TOP = frozenset(
    "applied_transform applied_scale render_aabb integer_depth_scale depth_unit_scale_factor orientation_override "
    "enable_depth_loading enable_ray_loading fovx fovy name frame_rate fps procedural".split()
)
"""``fovx`` and ``fovy`` are written by colmap2nerf and read by nobody; orientation_override concerns a frame of axes we do not build."""
INFORMATIVE_FRAME = frozenset("colmap_im_id rotation camera_id timestamp image_id".split())

UNSUPPORTED_TOP = {
    "fix_premult": "pictures are taken to carry straight alpha",
    "sharpen": "pictures are used as they are",
    "importance_sampling": "pixels are drawn uniformly",
    "envmap": "the background is a colour or part of the field",
    "n_extra_learnable_dims": "there are no per-image latents",
    "fisheye_crop_radius": "the whole fisheye picture is used; mark its dark rim with mask_path",
    "from_mitsuba": "matrices are taken to be in OpenGL camera axes",
    "normal_mts_args": "matrices are taken to be in OpenGL camera axes",
}
UNSUPPORTED_FRAME = {
    "depth_path": "depth is not used for training",
    "depth_file_path": "depth is not used for training",
    "normal_file_path": "normals are not used for training",
    "driver_parameters": "the light direction is not a parameter of fields",
    "rolling_shutter": "all rows are taken to be exposed at once",
}

REFUSED = {
    "latlong": "equirectangular",
    "equirectangular": "equirectangular",
    "orthographic": "orthographic",
    **{f"ftheta_p{i}": "f-theta" for i in range(5)},
}
"""Lens kinds whose pictures would be wrong if read as perspective."""


def notices(top: Mapping[str, Any], frames: Iterable[Mapping[str, Any]], source: str) -> list[str]:
    """One warning per field that is present but changes nothing though its writer expected it to."""
    frame_keys: dict[str, None] = {key: None for frame in frames for key in frame}
    # Some fields are legal at both levels in the one or the other program.
    unsupported = UNSUPPORTED_TOP | UNSUPPORTED_FRAME
    lines = [
        f"{source}: field {key!r} is not supported and was ignored: {unsupported[key]}"
        for key in dict.fromkeys([*top, *frame_keys])
        if key in unsupported and (_present(top.get(key)) or key in frame_keys)
    ]
    known = USED_TOP | USED_FRAME | INFORMATIVE_TOP | INFORMATIVE_FRAME | set(unsupported) | set(REFUSED)
    for key in dict.fromkeys([*top, *frame_keys]):
        if key not in known:
            near = did_you_mean(key, known)
            hint = f"; {near}" if near.startswith("did you mean") else ""
            lines.append(f"{source}: unknown field {key!r} was ignored{hint}")
    return lines


def _present(value: Any) -> bool:
    """False for an absent flag or one written as off."""
    return value is not None and value is not False and value != 0


def refuse_lenses(top: Mapping[str, Any], frames: Iterable[Mapping[str, Any]], source: str) -> None:
    """Raise UserError for lens kinds that cannot be read as perspective or fisheye."""
    for data in (top, *frames):
        for key, kind in REFUSED.items():
            if key in data and data[key] is not False:
                raise UserError(f"{source}: the {kind} lens ({key!r}) is not supported; convert the pictures to perspective ones")


def number(data: Mapping[str, Any], key: str, source: str) -> float | None:
    """A finite number, or None where the field is absent or null.

    Raises:
        UserError: anything else.
    """
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise UserError(f"{source}: {key!r} must be a finite number, got {short(value)}")
    return float(value)


def flag(data: Mapping[str, Any], key: str, source: str) -> bool:
    """A boolean (0 and 1 count), False where absent."""
    value = data.get(key)
    if value is None:
        return False
    if value in (0, 1):
        return bool(value)
    raise UserError(f"{source}: {key!r} must be true or false, got {short(value)}")


def numbers(data: Mapping[str, Any], key: str, source: str) -> list[float] | None:
    """A flat list of finite numbers, or None where absent."""
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise UserError(f"{source}: {key!r} must be a list of numbers, got {short(value)}")
    found = [number({key: item}, key, source) for item in value]
    if None in found:
        raise UserError(f"{source}: {key!r} must be a list of numbers, got {short(value)}")
    return [item for item in found if item is not None]


def short(value: Any) -> str:
    """``value`` for an error sentence."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
