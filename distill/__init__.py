"""Conversion of any field into any other: progressive volume distillation with active learning (PVD, PVD-AL)."""

from .distiller import Distiller
from .options import DistillOptions
from .run import distill_field, read_distill_config

__all__ = ["DistillOptions", "Distiller", "distill_field", "read_distill_config"]
