"""What a distillation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..training.options import RunOptions

STAGES = ("features", "points", "rays", "photographs")
"""PVD's three stages (section 3.3), and the optional last one."""


@dataclass(frozen=True)
class DistillOptions(RunOptions):
    """Everything that decides a distillation's result; saved as ``config.yaml`` in the run folder.

    Weights are of root mean squares. PVD's, of the norms of whole batches, are 0.002 for features, density and colour
    to 1 for rays; its batches hold about 100,000 samples of 4,096 rays, whence the figures here.
    """

    to: str = "vm"
    """Family of the student."""
    time: float | None = None
    """The moment, from 0 to 1, that a teacher that moves is frozen at."""
    branch: tuple[str, ...] = ()
    """KIND=FIELD: a branch of a hybrid student that learns from a teacher of its own first, and then stays as it is."""
    features: bool = True
    """Compare hand-overs where both fields have one."""
    features_until: float = 0.15
    """Share of the budget at which the stage of features ends (PVD: 2,000 of 30,000 steps)."""
    points_until: float = 0.5
    """Share at which the stage of density and colour ends and rays begin (PVD: 5,000 of 30,000)."""
    stage_rates: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Learning rate of each stage relative to the schedule's."""
    feature_weight: float = 0.02
    density_weight: float = 0.006
    color_weight: float = 0.01
    feature_decay: float = 10.0
    """Features' weight falls by exp(-this x share of the budget) (PVD: 0.995 per step of 30,000)."""
    progressive: bool = True
    """Go through the stages; otherwise all losses act from the start (PVD-AL's released default)."""
    clamp: bool = True
    """Compare log densities within PVD's range only."""
    inherit: bool = True
    """Start from the teacher's weights of the same shape and its occupancy."""
    active_images: bool = True
    """PVD-AL, level 1: look again, slightly turned, from where student and teacher differ most."""
    active_rays: bool = True
    """PVD-AL, level 2: a tenth of every batch are rays that were hard before."""
    active_points: bool = True
    """PVD-AL, level 3: compare features, density and colour only at the points that make up most of a ray."""
    photographs: float = 0.0
    """Share of the budget, at its end, that trains on photographs where a dataset is given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time is not None and not 0 <= self.time <= 1:
            raise ValueError(f"--time must lie between 0 and 1, got {self.time}")
        if not 0 <= self.photographs < 1:
            raise ValueError(f"--photographs must lie between 0 and 1, got {self.photographs}")
        if not 0 <= self.features_until <= self.points_until <= 1:
            raise ValueError("stages must follow each other: features_until and points_until are shares between 0 and 1, in this order")

    def stage_at(self, progress: float, handover: bool) -> str:
        """The stage at a share of the budget; without a ``handover`` common to teacher and student, features are skipped."""
        if self.photographs and progress >= 1.0 - self.photographs:
            return "photographs"
        if not self.progressive:
            return "rays"
        if handover and progress < self.features_until:
            return "features"
        return "points" if progress < self.points_until else "rays"
