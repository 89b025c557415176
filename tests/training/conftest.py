"""A scene small enough to train in a test: a shaded ball seen from all around, with alpha."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmorph.datasets.scene import Scene, load_scene

SIZE, ANGLE, RADIUS, DISTANCE = 32, 0.7, 0.7, 4.0


def camera_to_world(azimuth: float, elevation: float) -> np.ndarray:
    z = np.array([math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)])
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, np.cross(z, x), z, DISTANCE * z
    return pose


def picture(pose: np.ndarray) -> np.ndarray:
    """The ball's normal as colour, RGBA uint8."""
    focal = 0.5 * SIZE / math.tan(0.5 * ANGLE)
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    d = np.stack([(x - SIZE / 2) / focal, -(y - SIZE / 2) / focal, -np.ones_like(x)], -1)
    d = d @ pose[:3, :3].T
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    o = pose[:3, 3]
    b = d @ o
    h = b * b - (o @ o - RADIUS**2)
    hit = h > 0
    n = (o + (-b - np.sqrt(np.maximum(h, 0)))[..., None] * d) / RADIUS
    rgba = np.concatenate([np.where(hit[..., None], 0.5 + 0.5 * n, 0), hit[..., None]], -1)
    return (rgba * 255 + 0.5).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ball")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 1), ("test", 2)):
        (root / split).mkdir()
        frames = []
        for i in range(count):
            pose = camera_to_world(2 * math.pi * (i + 0.3) / count, float(rng.uniform(-0.2, 1.0)))
            Image.fromarray(picture(pose)).save(root / split / f"r_{i}.png")
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()})
        (root / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": ANGLE, "frames": frames}))
    return root


@pytest.fixture
def ball_scene(ball: Path) -> Scene:
    return load_scene(ball)
