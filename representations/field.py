"""The one interface every representation implements (PVD, section 3: the block-1 / block-2 cut)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from .. import kernels
from ..kernels.lowered import Lowered
from ..kernels.reference import Evaluation
from ..kernels.reference import truncated_exp as truncated_exp
from .occupancy import Occupancy
from .packing import Part
from .space import Space


class Geometry(NamedTuple):
    """Block 1's answer at N positions."""

    log_density: Tensor
    """Raw log density s, [N] (or [N, T] of a dynamic field)."""
    gate: Tensor
    """[N] in [0, 1]; what makes space truly empty: outside the box, pruned or erased regions."""
    features: Tensor
    """[N, F] for block 2: the 15 appearance numbers of PVD's hand-over, or SH coefficients."""


class Field(nn.Module):
    """A radiance field over a :class:`Space`.

    Subclasses set the class attributes, implement :meth:`geometry` and :meth:`color`,
    and keep every learned number in named parameters whose layout never depends on
    the kernels or device in use.  ``options`` is the family's frozen dataclass.
    """

    family: ClassVar[str]
    has_handover: ClassVar[bool] = True
    """Whether (s, features) are PVD's 16 numbers, comparable between families."""
    dynamic: ClassVar[bool] = False
    """Whether it moves. Such a field is seen through :meth:`at`; without times it answers as of time 0."""
    background: nn.Parameter | None
    """Learned colour behind the scene, [3] before the sigmoid; None where a fixed one is used."""

    render_steps: ClassVar[int] = 1024
    """Samples along the diagonal of its box that a picture is judged with (instant-ngp's number)."""
    drops_idle_samples: ClassVar[bool] = False
    """Whether its backward pass costs nothing for samples without a gradient, so that looking for them first pays only where they
    are many."""

    def __init__(self, options: Any, space: Space, occupancy_resolution: int = 128) -> None:
        super().__init__()
        self.options = options
        self.space = space
        self.occupancy = Occupancy(occupancy_resolution)
        self.register_parameter("background", None)
        self.metadata: dict[str, Any] = {}
        """JSON-able facts saved with the field: training cameras, history, colour space, background (see field_file)."""

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        """Block 1. positions [N, 3] in world units. Differentiable in the parameters and the positions.

        With times [T] in [0, 1] a dynamic field answers with s [N, T], and :meth:`color` with rgb [N, T, 3].
        """
        raise NotImplementedError

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        """Block 2. features [N, F], unit directions [N, 3] -> rgb [N, 3] in [0, 1], sRGB."""
        raise NotImplementedError

    def add_background(self) -> None:
        """Give the field a learned background, grey at first; it is saved with the field."""
        self.background = nn.Parameter(torch.zeros(3))

    def density(self, positions: Tensor, times: Tensor | None = None) -> Tensor:
        """gate * exp(s), per normalised length (see :attr:`Space.scale`); [N] >= 0. Without gradients the fused kernel answers."""
        if times is None and not torch.is_grad_enabled():
            ops, lowered = kernels.ops(positions.device), self.lower()
            if lowered is not None and ops.supports(lowered) is None:
                return ops.evaluate_density(lowered, positions)
        geometry = self.geometry(positions, times)
        return geometry.gate * truncated_exp(geometry.log_density)

    def peak_density(self, positions: Tensor, settled: bool = False) -> Tensor:
        """The greatest density over all times [N], what an occupancy grid goes by; ``settled`` late in training."""
        return self.density(positions)

    @property
    def frames(self) -> int:
        """Times that a dynamic field tells apart; 1 of one that stands still."""
        return 1

    def at(self, time: float) -> Field:
        """The scene at one time in [0, 1] as a field that stands still; one that does so already is its own."""
        return self

    def evaluate(self, positions: Tensor, directions: Tensor) -> Evaluation:
        """Both blocks at positions [N, 3] seen along unit directions [N, 3], in one fused call where a kernel can.

        Differentiable in the parameters.
        """
        ops, lowered = kernels.ops(positions.device), self.lower()
        if lowered is not None and ops.supports(lowered) is None:
            found: Evaluation = ops.evaluate(lowered, positions, directions)
            return found
        geometry = self.geometry(positions)
        return Evaluation(geometry.log_density, geometry.gate, geometry.features, self.color(geometry.features, directions))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw fresh parameters; the same generator state gives the same numbers on every device."""
        raise NotImplementedError

    def layout(self) -> dict[str, Any]:
        """JSON-able numbers beyond the options that fix the shape of every tensor (after upsampling, shrinking, pruning).

        ``type(field)(options, space, layout)`` makes a field of the same shapes, its parameters not initialised.
        """
        return {}

    def background_group(self) -> list[dict[str, Any]]:
        """The optimizer group of the learned background, if there is one; for :meth:`parameter_groups`."""
        if self.background is None:
            return []
        return [{"name": "background", "params": [self.background], "lr": 1.0, "sparse": False}]

    def packing(self) -> dict[str, list[Part]]:
        """How a packed file cuts this family's tensors, by name; those left out are cut by :func:`~.packing.default_parts`.

        Both sides call it, so it may depend on the options, the occupancy's bits and what is not packed, never on parameters.
        """
        return {}

    def check_content(self) -> None:
        """Refuse tensors whose values would make a kernel read outside its memory (a loaded file may hold anything).

        Raises:
            ValueError: a sentence that names the tensor.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups: {"name", "params", "lr" (relative to the base rate), "sparse" (skip untouched rows)}."""
        return [{"name": "all", "params": list(self.parameters()), "lr": 1.0, "sparse": False}]

    def regularization(self, step: int) -> Tensor | None:
        """Weighted sum of this family's priors (total variation, L1, sparsity), a scalar, or None."""
        return None

    def milestone(self, progress: float) -> bool:
        """Upsample, shrink or prune when ``progress`` in [0, 1] has passed the next mark. True: parameters changed, rebuild the optimizer.

        A field keeps which marks are done in a buffer, so that a resumed run repeats none.
        """
        return False

    def lower(self) -> Lowered | None:
        """The field as plain tensors for a fused kernel, or None where only the reference path can evaluate it."""
        return None

    @property
    def numbers(self) -> int:
        """Learned numbers, as papers count parameters: those that are trained, and one for each bit of a mask that was learned."""
        return sum(p.numel() for p in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
