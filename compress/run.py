"""Everything behind ``fieldmorph compress``, for whoever has a field in memory: one call, with progress and cancellation."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from ..datasets.scene import Scene
from ..errors import UserError
from ..render.renderer import background_color, which_renderer
from ..representations.edited import EditedField
from ..representations.field import Field
from ..training.batches import PhotoBatches
from ..training.evaluation import eval_settings
from ..training.teacher import Teacher, TeacherBatches
from ..training.trainer import BatchSource
from .pack import Follow, Packed, PackOptions, pack_field
from .search import Probe
from .sensitivity import random_rays

PROBE_RAYS = 1 << 15
SLOW_PROBE_RAYS = 1 << 12
"""The same for a field without compiled kernels."""


def compress_field(
    field: Field,
    path: Path,
    options: PackOptions,
    scene: Scene | None = None,
    *,
    probe: Probe | None = None,
    follow: Follow | None = None,
) -> Packed:
    """Write ``field`` packed to ``path``; the field itself stays as it is.

    Args:
        scene: photographs to measure the loss on (held-out ones where there are any) and to train on; None: the field is
            its own measure and teacher.
        probe: what the loss is measured on, where it has been made already (:func:`make_probe`).
        follow: hears how it goes, several times a second or every few seconds; what it raises (:class:`.Cancelled`,
            say) ends the work, and no file is left behind.

    Raises:
        UserError: the field has edits or no recorded cameras, or it cannot be pruned; the file cannot be written.
    """
    check_packable(field)
    probe = make_probe(field, scene, options.seed) if probe is None else probe
    batches: BatchSource | None = None
    if options.trains:
        batches = PhotoBatches(scene, "train", field.device) if scene else TeacherBatches(Teacher(copy.deepcopy(field)))
    return pack_field(copy.deepcopy(field), path, probe, options, batches, follow)


def check_packable(field: Field, name: str = "the field") -> None:
    """Raises UserError where a field cannot be packed."""
    if isinstance(field, EditedField):
        raise UserError(f"{name} has edits; bake them first with fieldmorph edit --bake, or compress before editing")
    if field.dynamic:
        raise UserError(
            f"{name} moves, and only fields that stand still are packed: what shows at other moments would be lost; "
            "freeze it first with fieldmorph distill --time"
        )
    if not field.metadata.get("cameras"):
        raise UserError(f"{name} has no recorded cameras, which say what must be kept; train it with fieldmorph train")


def make_probe(field: Field, scene: Scene | None, seed: int = 0) -> Probe:
    """Rays of held-out photographs where there are any, else of the recorded cameras."""
    settings = eval_settings(field)
    count = PROBE_RAYS if which_renderer(field) == "fused" else SLOW_PROBE_RAYS
    generator = torch.Generator().manual_seed(seed)
    if scene is None:
        return Probe(field, random_rays(field, count, generator), settings, None)
    split = next(s for s in ("val", "test", "train") if scene.split.get(s))
    batch = PhotoBatches(scene, split, field.device).next(count, generator)
    behind = background_color(field, settings.background)
    return Probe(field, batch.rays, settings, batch.over(torch.zeros(3) if behind is None else behind.detach()), split)
