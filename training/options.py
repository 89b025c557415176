"""What a training run is asked to do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

BackgroundMode = Literal["auto", "white", "black", "random", "learned"]


@dataclass(frozen=True)
class RunOptions:
    """What every run is asked, whatever it learns from."""

    steps: int | None = None
    """Budget in optimisation steps; the same seed then gives the same parameters bit for bit on a CPU."""
    seconds: float | None = None
    """Budget in seconds of learning (saving and evaluating not counted)."""
    seed: int = 0
    device: str = "auto"
    rate: float | None = None
    """Base learning rate; None: the family's own."""
    samples: int | None = None
    """Field evaluations per step that the ray batch adapts to; None: the family's own."""
    checkpoint_seconds: float = 60.0
    """Save a checkpoint whenever this many seconds of learning have passed."""
    checkpoint_steps: int | None = None
    """Save a checkpoint every so many steps, as well."""
    view_seconds: float = 30.0
    """Render a view this often (0: never); its time does not count."""
    family_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the family that is learned that differ from its defaults."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"--steps must not be negative, got {self.steps}")
        if self.seconds is not None and not 0 < self.seconds < 1e9:
            raise ValueError(f"--seconds must be positive, got {self.seconds}")
        if self.rate is not None and not 0 < self.rate < 10:
            raise ValueError(f"--rate must lie between 0 and 10, got {self.rate}")
        if self.samples is not None and not 256 <= self.samples <= 1 << 24:
            raise ValueError(f"--samples must be 256 to {1 << 24}, got {self.samples}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"--seed must be 0 to 2^63 - 1, got {self.seed}")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise ValueError(f"--checkpoint-steps must be at least 1, got {self.checkpoint_steps}")
        if not self.checkpoint_seconds > 0:
            raise ValueError(f"--checkpoint-seconds must be positive, got {self.checkpoint_seconds}")
        if not self.view_seconds >= 0:
            raise ValueError(f"--view-seconds must not be negative, got {self.view_seconds}")


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Everything that decides a run's result; saved as ``config.yaml`` in the run folder."""

    field: str = "hashgrid"
    """Family of representation to train."""
    background: BackgroundMode = "auto"
    """What shows behind the scene while training; auto: random behind images with alpha, none behind photographs."""
    warm: str | None = None
    """mixed: field file or run folder of a vm field that the static branch starts from."""
    compress: Literal["none", "hollow"] = "none"
    """hollow: prune the field's saliency grid while training (HollowNeRF)."""
    keep: float = 0.1
    """hollow: greatest share of the saliency grid that stays open."""
