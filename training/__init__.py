"""Training: one optimisation loop for all families, its batches, checkpoints and metrics."""

from .evaluation import Evaluation, evaluate
from .options import TrainOptions
from .run import TrainResult, load_run_or_field, read_config, train
from .trainer import StepStats, Trainer

__all__ = ["Evaluation", "StepStats", "TrainOptions", "TrainResult", "Trainer", "evaluate", "load_run_or_field", "read_config", "train"]
