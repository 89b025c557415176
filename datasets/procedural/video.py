"""Writes the moving scene as a multi-view video in the layout of the Plenoptic Video dataset (Li et al. 2022)."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import UserError
from ...render.camera import Camera, look_at
from ...render.video import open_video
from ..images import Progress, run_parallel
from .folder import scene_folder
from .movers import BACKDROP, Moment

TARGET = (0.0, 0.15, -0.25)
DISTANCE = 3.1
NEAR, FAR = 1.6, 5.2
"""Depth bounds written to poses_bounds.npy, world units."""
TRUTH = "ground_truth"
"""Folder of exact frames and of masks of what moves, of the held-out camera."""
TABLE = "poses_bounds.npy"
OURS = ("cam[0-9][0-9].mp4", TABLE, TRUTH, "video.json", "frames")
"""What such a scene consists of; frames is where the reader keeps decoded ones."""


def rig(count: int, width: int, height: int) -> list[Camera]:
    """Cameras in rows on a part of a sphere before the stage; number 0 is in the middle, to be held out."""
    rows = 2 if count < 16 else 3
    cameras, focal = [], 1.25 * width
    for k in range(count):
        if k == 0:
            across, up = 0.0, 0.30
        else:
            row, column, columns = (k - 1) % rows, (k - 1) // rows, math.ceil((count - 1) / rows)
            across = 0.55 * (2.0 * (column + 0.5 * (row % 2)) / max(1, columns - 0.5) - 1.0)
            up = 0.10 + 0.42 * row / max(1, rows - 1)
        place = np.array([math.sin(across) * math.cos(up), -math.cos(across) * math.cos(up), math.sin(up)]) * DISTANCE + np.array(TARGET)
        cameras.append(Camera(width, height, focal, focal, width / 2, height / 2, look_at(place, TARGET), name=f"cam{k:02d}"))
    return cameras


def make_video_scene(
    out: Path | str,
    *,
    cameras: int = 12,
    frames: int = 60,
    width: int = 160,
    height: int = 120,
    seed: int = 0,
    samples: int = 2,
    fps: float = 30.0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Trace ``frames`` moments from ``cameras`` views into folder ``out`` and return it, absolute.

    camNN.mp4 (H.264), poses_bounds.npy, and for camera 0, which readers hold out: ground_truth/FFFFF.png, the frames before
    compression, and ground_truth/moving-FFFFF.png, where something that moves is seen. ``progress(done, total)`` counts moments.

    Raises:
        UserError: impossible options, ``out`` not empty without ``overwrite`` (or not such a scene), a disk error.
    """
    if not 2 <= cameras <= 99 or not 2 <= frames <= 10_000:
        raise UserError(f"a multi-view video needs 2 to 99 cameras and 2 to 10000 frames, got {cameras} and {frames}")
    if not (16 <= width <= 4096 and 16 <= height <= 4096 and width % 2 == 0 and height % 2 == 0):
        raise UserError(f"a video's sides are even and lie between 16 and 4096 pixels, got {width}x{height}")
    if seed < 0 or not 1 <= samples <= 16:
        raise UserError(f"the seed must not be negative and samples lie between 1 and 16, got {seed} and {samples}")
    with scene_folder(out, overwrite, OURS, sign=TABLE) as (part, folder):
        _write(part, rig(cameras, width, height), frames, seed, samples, fps, progress)
    return folder


def _write(folder: Path, views: list[Camera], frames: int, seed: int, samples: int, fps: float, progress: Progress | None) -> None:
    """All frames of all views go to a mapped file first: a moment's exact geometry is made once, a film is written in order."""
    width, height = views[0].width, views[0].height
    truth = folder / TRUTH
    truth.mkdir()
    behind = np.array(BACKDROP, np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(len(views) * frames * height * width * 3)
        pixels = np.memmap(file, np.uint8, "r+", shape=(len(views), frames, height, width, 3))

        def work(f: int) -> None:
            moment = Moment(seed, f / frames)
            for k, view in enumerate(views):
                seen = moment.trace(view, samples=samples, workers=1)
                rgb = behind + seen.rgba[..., 3:] * (seen.rgba[..., :3] - behind)
                pixels[k, f] = (rgb * 255.0 + 0.5).astype(np.uint8)
                if k == 0:
                    moving = np.where(seen.objects >= 0, moment.moving[seen.objects], False)
                    Image.fromarray(pixels[0, f]).save(truth / f"{f:05d}.png")
                    Image.fromarray(np.where(moving, 255, 0).astype(np.uint8)).save(truth / f"moving-{f:05d}.png")

        Moment(seed, 0.0).prepare()
        run_parallel(work, frames, None if progress is None else lambda done, of: progress(done, of), workers=os.cpu_count())
        for k, view in enumerate(views):
            with open_video(folder / f"{view.name}.mp4", fps) as film:
                for f in range(frames):
                    film(pixels[k, f])
    np.save(folder / TABLE, poses_bounds(views))
    (folder / "video.json").write_text(json.dumps({"procedural": {"seed": seed, "dynamic": True}, "frames": frames, "fps": fps}))


def poses_bounds(views: list[Camera]) -> np.ndarray:
    """LLFF's table [C, 17]: 3x5 of axes (down, right, back), position, (height, width, focal); then near and far depth."""
    rows = []
    for view in views:
        pose = view.camera_to_world
        down, right, back = -pose[:, 1], pose[:, 0], pose[:, 2]
        table = np.stack([down, right, back, pose[:, 3], np.array([view.height, view.width, view.fx])], 1)
        rows.append(np.concatenate([table.reshape(-1), [NEAR, FAR]]))
    return np.array(rows)
