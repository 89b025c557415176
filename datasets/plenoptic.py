"""Multi-view videos in the layout of the Plenoptic Video dataset (Li et al. 2022): camNN.mp4 and poses_bounds.npy.

Every frame of every camera becomes a picture with a time; the first camera is held out.  Frames are decoded once, one at
a time, into PNG files beside the videos (or in the user's cache, where the folder cannot be written), so that a clip of any
length needs the memory of one frame, and an interrupted decoding goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import progress
from ..errors import UserError
from ..render.camera import Camera
from ..representations.space import Space
from .format import Format
from .images import Images, Pixels, decode_image, run_parallel
from .scene import Scene, fingerprint

TABLE = "poses_bounds.npy"
TRUTH = "ground_truth"
"""Folder of exact frames FFFFF.png of the held-out camera, where a clip has them; they are what scores compare with."""
DONE = "complete"
"""File in a camera's folder of frames that holds their number, written last."""


def _videos(folder: Path) -> list[Path]:
    return sorted(folder.glob("cam*.mp4"))


def _sniff(path: Path) -> bool:
    return (path / TABLE).is_file() and bool(_videos(path))


def read_plenoptic(path: Path, holdout: int) -> Scene:
    """Read the folder ``path``; ``holdout`` 0 trains on all cameras, else the first one tests.

    Raises:
        UserError: a table that does not fit the videos, videos of different lengths or sizes, or one that cannot be decoded.
    """
    videos = _videos(path)
    table = _table(path / TABLE, len(videos))
    store = _store(path)
    counts = _decode(videos, store)
    if len(set(counts)) > 1:
        named = ", ".join(f"{video.name} {count}" for video, count in zip(videos, counts, strict=True))
        raise UserError(f"{path}: the videos differ in length ({named}); cut them to the frames they share")
    frames = counts[0]
    if frames < 2:
        raise UserError(f"{path}: the videos hold {frames} frame each; a moving scene needs at least 2")
    cameras: list[Camera] = []
    files: list[Path] = []
    axes = rig_axes(table)
    for k, video in enumerate(videos):
        with Image.open(store / video.stem / "00000.png") as first:
            width, height = first.size
        base = _camera(table[k], width, height, axes)
        exact = path / TRUTH
        for f in range(frames):
            file = store / video.stem / f"{f:05d}.png"
            if k == 0 and (exact / file.name).is_file():
                file = exact / file.name
            cameras.append(_at(base, f / (frames - 1), f"{video.stem}/{f:05d}"))
            files.append(file)
    per = list(range(frames))
    test = per if holdout and len(videos) > 1 else []
    train = list(range(len(test), len(cameras)))
    split = {"train": train, "val": [], "test": test}
    images = Images(files, [(camera.width, camera.height) for camera in cameras], 3)
    views = cameras[::frames]
    space = stage_space(views, float(table[:, 15].min()), float(table[:, 16].max()))
    return Scene(
        name=path.name,
        root=path,
        format=FORMAT.name,
        cameras=cameras,
        images=images,
        split=split,
        space=space,
        near=0.9 * float(table[:, 15].min()),
        has_alpha=False,
        up=_up(views),
        fingerprint=fingerprint(cameras, images, split),
        facts={"frames": frames, "views": len(videos), "axes": axes.tolist(), "box": "around the depths the table names", **_facts(path)},
    )


def moving_pixels(file: Path) -> NDArray[np.bool_] | None:
    """Where something moves in a frame, bool [H, W], of a clip that keeps such masks beside its exact frames; else None."""
    mask = file.with_name(f"moving-{file.name}")
    if file.parent.name != TRUTH or not mask.is_file():
        return None
    return decode_image(mask, 1)[..., 0] > 127


def _facts(path: Path) -> dict[str, Any]:
    """What the program's own clips say about themselves."""
    try:
        found = json.loads((path / "video.json").read_text())
        return {key: found[key] for key in ("procedural", "fps") if key in found}
    except (OSError, ValueError, TypeError):
        return {}


def _table(path: Path, videos: int) -> NDArray[np.float64]:
    """LLFF's [C, 17], checked.

    Raises:
        UserError: it is something else.
    """
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore the file") from None
    if table.ndim != 2 or table.shape[1] != 17 or not np.issubdtype(table.dtype, np.floating) or not np.isfinite(table).all():
        raise UserError(f"{path}: holds {table.dtype} {list(table.shape)}, expected is a finite [cameras, 17] table")
    if len(table) != videos:
        raise UserError(f"{path}: has {len(table)} cameras and there are {videos} videos; remove the rows of missing ones")
    poses = table[:, :15].reshape(-1, 3, 5)
    if (np.abs(np.linalg.det(poses[:, :, :3]) - 1.0) > 5e-3).any():
        raise UserError(f"{path}: a pose is no rotation; restore the file")
    if (poses[:, :, 4] <= 0.0).any() or (table[:, 15] <= 0.0).any() or (table[:, 16] <= table[:, 15]).any():
        raise UserError(f"{path}: a size, focal length or depth range is not positive; restore the file")
    return table.astype(np.float64)


def rig_axes(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation [3, 3] whose rows are the rig's axes right, up and back in the table's coordinates.

    Scenes are turned to them, as LLFF turns its own: planes and lines describe what is seen best where one plane is the picture's.
    """
    poses = table[:, :15].reshape(-1, 3, 5)
    back, down = poses[:, :, 2].mean(0), poses[:, :, 0].mean(0)
    right = np.cross(-down, back)
    if np.linalg.norm(back) < 1e-3 or np.linalg.norm(right) < 1e-3:  # cameras all around have no common front
        return np.eye(3)
    back, right = back / np.linalg.norm(back), right / np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back])


def _camera(row: NDArray[np.float64], width: int, height: int, axes: NDArray[np.float64]) -> Camera:
    """LLFF's axes are (down, right, back); its focal length is in pixels of the width it names."""
    pose = row[:15].reshape(3, 5)
    turned = axes @ np.stack([pose[:, 1], -pose[:, 0], pose[:, 2], pose[:, 3]], 1)
    focal = pose[2, 4] * width / pose[1, 4]
    return Camera(width, height, focal, focal, width / 2.0, height / 2.0, turned)


def _at(camera: Camera, time: float, name: str) -> Camera:
    return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.camera_to_world, time=time, name=name)


def stage_space(views: list[Camera], near: float, far: float) -> Space:
    """Unbounded space whose middle holds what forward-facing cameras see between two depths."""
    poses = np.stack([view.camera_to_world for view in views])
    forward = -poses[:, :, 2].mean(0)
    forward /= np.linalg.norm(forward)
    depth = 0.5 * (near + far)
    centre = poses[:, :, 3].mean(0) + depth * forward
    widest = max(0.5 * max(view.width / view.fx, view.height / view.fy) for view in views)
    half = max(0.5 * (far - near), depth * widest)
    lower, upper = (tuple((centre + sign * half).tolist()) for sign in (-1.0, 1.0))
    return Space(lower, upper, unbounded=True)


def _up(views: list[Camera]) -> tuple[float, float, float]:
    mean = np.stack([view.camera_to_world[:, 1] for view in views]).mean(0)
    x, y, z = (mean / max(float(np.linalg.norm(mean)), 1e-9)).tolist()
    return x, y, z


def _store(path: Path) -> Path:
    """Folder for decoded frames."""
    if os.access(path, os.W_OK):
        return path / "frames"
    from platformdirs import user_cache_path

    return user_cache_path("fieldmorph") / "frames" / hashlib.sha256(str(path).encode()).hexdigest()[:16]


def _decode(videos: list[Path], store: Path) -> list[int]:
    """Frames of every video as PNG files; the number of each. What is there already is kept."""
    counts = [_finished(video, store / video.stem) for video in videos]
    waiting = [k for k, count in enumerate(counts) if count is None]
    if waiting:
        progress.say(f"decoding {len(waiting)} videos into {store}")
        with progress.Bar("decode", len(waiting), "videos") as bar:

            def work(k: int) -> None:
                counts[waiting[k]] = _decode_one(videos[waiting[k]], store / videos[waiting[k]].stem)

            run_parallel(work, len(waiting), lambda done, _: bar.update(done), workers=min(4, os.cpu_count() or 1))
    return [count or 0 for count in counts]


def _mark(video: Path) -> str:
    """What tells a video from another of the same name."""
    facts = video.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _finished(video: Path, folder: Path) -> int | None:
    try:
        count, mark = (folder / DONE).read_text().split("\n")[:2]
        return int(count) if mark == _mark(video) else None
    except (OSError, ValueError):
        return None


def _decode_one(video: Path, folder: Path) -> int:
    """Raises:
    UserError: the video is damaged, or the disk is full.
    """
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for frame in _frames(video):
            file = folder / f"{count:05d}.png"
            partial = folder / f".{file.name}.part"
            Image.fromarray(frame).save(partial, format="PNG", compress_level=1)
            os.replace(partial, file)
            count += 1
        (folder / DONE).write_text(f"{count}\n{_mark(video)}\n")
    except OSError as error:
        raise UserError(f"{video}: cannot be decoded into {folder} ({error.strerror or error}); free some space or repair it") from error
    return count


def _frames(video: Path) -> Iterator[Pixels]:
    import imageio.v3 as iio

    try:
        yield from iio.imiter(video, plugin="pyav")
    except Exception as error:  # av's errors have many types, imageio's OSErrors have no number
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{video}: is not a video this program reads ({str(error) or type(error).__name__})") from error


FORMAT = Format("plenoptic", "camNN.mp4 videos beside poses_bounds.npy", _sniff, read_plenoptic)
