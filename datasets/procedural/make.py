"""Writes the procedural scene as a NeRF-Synthetic folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ...render.camera import Camera
from ..images import Progress, run_parallel
from .folder import scene_folder
from .poses import ANGLE_X, random_cameras, turntable
from .world import Picture, geometry

MAX_VIEWS = 100_000
SPLITS = ("train", "val", "test")


def make_scene(
    out: Path | str,
    *,
    size: int = 200,
    train: int = 100,
    val: int = 10,
    test: int = 25,
    seed: int = 0,
    samples: int = 3,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Trace the scene of ``seed`` into folder ``out`` and return it, absolute.

    Square pictures of ``size`` pixels, RGBA with straight alpha; ``train`` and ``val`` cameras are
    random, ``test`` cameras go once around. ``samples`` squared rays at most form a pixel. The folder appears
    complete or not at all. ``progress(done, total)`` counts pictures.

    Raises:
        UserError: impossible options, ``out`` not empty without ``overwrite`` (or not a scene), a disk error.
    """
    if not 8 <= size <= 8192:
        raise UserError(f"the picture size must lie between 8 and 8192 pixels, got {size}")
    if train < 1 or val < 0 or test < 0:
        raise UserError(f"a scene needs at least 1 training view and no negative numbers of views, got {train}, {val} and {test}")
    if max(train, val, test) > MAX_VIEWS:
        raise UserError(f"a scene has at most {MAX_VIEWS} views of each kind, got {max(train, val, test)}")
    if seed < 0:
        raise UserError(f"the seed must not be negative, got {seed}")
    if not 1 <= samples <= 16:
        raise UserError(f"samples must lie between 1 and 16, got {samples}")
    rng = np.random.default_rng([seed, 1])
    views = {
        "train": random_cameras(train, size, rng, "train"),
        "val": random_cameras(val, size, rng, "val"),
        "test": turntable(test, size, "test"),
    }
    ours = (*SPLITS, *(f"transforms_{split}.json" for split in SPLITS))
    with scene_folder(out, overwrite, ours) as (part, folder):
        _write(part, views, seed, samples, progress)
    return folder


def _write(folder: Path, views: dict[str, list[Camera]], seed: int, samples: int, progress: Progress | None) -> None:
    scene = geometry(seed)
    scene.prepare()  # compiles and fills the grid once, before the threads start
    jobs = [camera for cameras in views.values() for camera in cameras]
    for split, cameras in views.items():
        if not cameras:
            continue  # a file without frames would be an error to every reader
        (folder / split).mkdir()
        (folder / f"transforms_{split}.json").write_text(json.dumps(_transforms(cameras, seed), indent=1), encoding="utf-8")

    def work(k: int) -> None:
        save_png(scene.trace(jobs[k], samples=samples, workers=1).rgba, folder / f"{jobs[k].name}.png")

    run_parallel(work, len(jobs), progress, workers=os.cpu_count())


def save_png(rgba: Picture, path: Path) -> None:
    """Straight-alpha display values [H, W, 4] in [0, 1] as an 8-bit PNG."""
    Image.fromarray((rgba * 255.0 + 0.5).astype(np.uint8)).save(path, compress_level=6)


def _transforms(cameras: Sequence[Camera], seed: int) -> dict[str, Any]:
    frames = [
        {"file_path": f"./{camera.name}", "transform_matrix": [*camera.camera_to_world.tolist(), [0.0, 0.0, 0.0, 1.0]]}
        for camera in cameras
    ]
    return {"camera_angle_x": ANGLE_X, "procedural": {"seed": seed}, "frames": frames}
