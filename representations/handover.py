"""Fields that hand over PVD's 16 numbers: one or several encoders, then the shared colour network.

An :class:`Encoder` is block 1 up to the hand-over, over unit coordinates.  A family of this
kind is an encoder plus one line in the registry; ``hybrid`` sums several.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import kernels
from ..kernels.lowered import CPEncoding, GridEncoding, HybridEncoding, Lowered, VMEncoding
from ..kernels.reference import inside_unit
from ..kernels.reference_saliency import saliency_at
from .field import Field, Geometry
from .heads import DIRECTION, color_head
from .options import FieldOptions
from .packing import Part
from .space import Space

Branch = tuple[GridEncoding | VMEncoding | CPEncoding | HybridEncoding, tuple[Tensor, ...]]


class Encoder(nn.Module):
    """Block 1 over unit coordinates: [N, 3] -> 16 hand-over numbers [N, 16]."""

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw fresh parameters, the same for the same generator on every device."""
        raise NotImplementedError

    def layout(self) -> dict[str, Any]:
        """JSON-able numbers that, with the options, fix every tensor's shape."""
        return {}

    def saliency_logits(self) -> Tensor | None:
        """[S, S, S] trainable logits of a gate on the encoding, which :meth:`forward` has applied; None where there is none."""
        return None

    def saliency_mask(self) -> Tensor | None:
        """[S, S, S] bool, vertices that pruning has left open for good; None before its decision, and where there is no pruning."""
        return None

    def lower(self) -> Branch | None:
        """(encoding, density head) for a fused kernel, or None."""
        return None

    def packing(self, bits: NDArray[np.bool_]) -> dict[str, list[Part]]:
        """See :meth:`Field.packing`; names are the encoder's own."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def regularization(self, step: int) -> Tensor | None:
        return None

    def milestone(self, field: Field, progress: float) -> bool:
        """See :meth:`Field.milestone`; may replace parameters and, where ``can_shrink``, the field's space."""
        return False


class HandoverField(Field):
    """An encoder and the colour network of Instant-NGP: 31 -> hidden -> hidden -> 3, bias-free, sigmoid."""

    encoder: Encoder
    network_rate: ClassVar[float] = 1.0
    """Learning rate of the colour network relative to the family's base rate."""

    def __init__(self, options: FieldOptions, space: Space, encoder: Encoder, hidden: int) -> None:
        super().__init__(options, space, options.occupancy)
        self.encoder = encoder
        self.color_head = color_head(hidden)

    def reset_parameters(self, generator: torch.Generator) -> None:
        self.encoder.reset_parameters(generator)
        self.color_head.reset_parameters(generator)

    def layout(self) -> dict[str, Any]:
        return self.encoder.layout()

    def packing(self) -> dict[str, list[Part]]:
        bits = self.occupancy.bits.cpu().numpy()
        return {f"encoder.{name}": parts for name, parts in self.encoder.packing(bits).items()}

    def geometry(self, positions: Tensor, times: Tensor | None = None) -> Geometry:
        unit = self.space.to_unit(positions)
        numbers, gate, logits = self.encoder(unit), inside_unit(unit), self.encoder.saliency_logits()
        if logits is not None:
            gate = gate & saliency_at(unit, logits)[1]
        return Geometry(numbers[:, 0], gate.to(numbers.dtype), numbers[:, 1:])

    def color(self, features: Tensor, directions: Tensor, times: Tensor | None = None) -> Tensor:
        basis = kernels.ops(features.device).spherical_harmonics(directions, round(DIRECTION**0.5)).to(features.dtype)
        return torch.sigmoid(self.color_head(torch.cat([basis, features], -1)))

    def parameter_groups(self) -> list[dict[str, Any]]:
        network = {"name": "color network", "params": list(self.color_head.parameters()), "lr": self.network_rate, "sparse": False}
        return [*self.encoder.parameter_groups(), network, *self.background_group()]

    def regularization(self, step: int) -> Tensor | None:
        return self.encoder.regularization(step)

    def milestone(self, progress: float) -> bool:
        return self.encoder.milestone(self, progress)

    def lower(self) -> Lowered | None:
        branch = self.encoder.lower()
        if branch is None:
            return None
        logits = self.encoder.saliency_logits()
        return Lowered(self.space.lower, self.space.upper, self.space.unbounded, *branch, self.color_head.tensors, logits)
