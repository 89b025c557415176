"""Writes the procedural scene as a NeRF-Synthetic folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ...render.camera import Camera
from ..images import Progress, run_parallel
from .poses import ANGLE_X, random_cameras, turntable
from .world import Picture, geometry

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
    if seed < 0:
        raise UserError(f"the seed must not be negative, got {seed}")
    if not 1 <= samples <= 16:
        raise UserError(f"samples must lie between 1 and 16, got {samples}")
    folder = Path(out).expanduser().absolute()
    _check_target(folder, overwrite)
    rng = np.random.default_rng([seed, 1])
    views = {
        "train": random_cameras(train, size, rng, "train"),
        "val": random_cameras(val, size, rng, "val"),
        "test": turntable(test, size, "test"),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        _write(part, views, seed, samples, progress)
        replace_folder(part, folder)
    except OSError as error:
        raise UserError(f"{folder}: the scene could not be written ({error.strerror}); free disk space or choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _check_target(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder for the scene")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{folder}: the folder is not empty; choose another, or replace the scene in it with --overwrite")
    foreign = {entry.name for entry in folder.iterdir()} - {*SPLITS, *(f"transforms_{split}.json" for split in SPLITS)}
    if foreign:
        raise UserError(
            f"{folder}: holds other things than a scene ({sorted(foreign)[0]}), which --overwrite would delete; choose another folder"
        )


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


def replace_folder(part: Path, folder: Path) -> None:
    """Put the finished folder in place; an old scene is moved aside first and deleted last."""
    os.chmod(part, 0o777 & ~_umask())
    if not folder.exists():
        os.rename(part, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.rename(folder, old / "scene")
    try:
        os.rename(part, folder)
    except OSError:
        os.rename(old / "scene", folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
