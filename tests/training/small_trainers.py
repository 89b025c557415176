"""The smallest training of a hash grid that recorded steps are tested with."""

from __future__ import annotations

from dataclasses import replace

import torch

from fieldmorph.datasets.scene import Scene
from fieldmorph.training import TrainOptions
from fieldmorph.training.batches import PhotoBatches
from fieldmorph.training.budget import Budget
from fieldmorph.training.evaluation import eval_settings
from fieldmorph.training.recipes import recipe_for
from fieldmorph.training.run import background_source, new_field
from fieldmorph.training.trainer import Trainer

TINY = ("levels=2", "features=8", "log2_table=6", "base=4", "finest=8", "hidden=16", "occupancy=8")


def small_trainer(scene: Scene, device: torch.device) -> Trainer:
    options = TrainOptions(field="hashgrid", family_options=dict(pair.split("=") for pair in TINY), steps=10)
    field = new_field(scene, options, device)
    recipe = replace(recipe_for("hashgrid"), steps_per_diagonal=8, samples=64)
    batches, behind = PhotoBatches(scene, "train", device), background_source(options, scene, field)
    trainer = Trainer(field, batches, recipe, Budget(10, None), eval_settings(field, scene), behind, 1)
    trainer.rays = 64
    return trainer
