"""How well a student agrees with its teacher, in pictures neither was compared in before."""

from __future__ import annotations

import torch

from ..render.overview import recorded_cameras
from ..render.renderer import render_image
from ..representations.field import Field
from ..training.evaluation import eval_settings
from ..training.metrics import psnr
from ..training.poses import PoseSource

VIEWS, LONGEST, SEED = 8, 256, 1_000_003


def agreement(student: Field, teacher: Field, views: int = VIEWS, longest: int = LONGEST) -> float:
    """Mean PSNR in dB between their pictures from ``views`` new poses around the teacher's cameras, at full quality.

    Always the same poses for the same teacher; pictures are ``longest`` pixels along their longer side at most.
    """
    cameras = PoseSource(recorded_cameras(teacher), teacher.space).draw(views, torch.Generator().manual_seed(SEED))
    total = 0.0
    for camera in cameras:
        shrink = max(1, -(-max(camera.width, camera.height) // longest))
        small = camera.resized(max(1, camera.width // shrink), max(1, camera.height // shrink))
        pictures = [render_image(field, small, eval_settings(field)).rgb.clamp(0.0, 1.0) for field in (student, teacher)]
        total += min(psnr(*pictures), 100.0)
    return total / len(cameras)
