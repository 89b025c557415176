"""NeRF's large network (Mildenhall et al. 2020) with PVD's cut: its backbone ends where a hash grid's encoding does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .. import kernels
from ..kernels.reference import clamp_unit
from .handover import Encoder, HandoverField
from .heads import density_head, uniform_
from .options import FieldOptions
from .space import Space


@dataclass(frozen=True)
class MLPOptions(FieldOptions):
    """NeRF's network up to PVD's hand-over (PVD, section 3)."""

    octaves: int = 10
    """Frequencies of the positional encoding, beside the position itself."""
    layers: int = 8
    """Linear layers of the backbone; the encoded position enters again after half of them."""
    width: int = 256
    """Width of the backbone."""
    encoded: int = 32
    """Width the backbone ends with: a hash grid's levels x features, so that its networks can be inherited."""
    hidden: int = 64
    """Width of the hidden layers of the density and colour networks."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Factors of the backbone's matrix products (auto: bfloat16 where the machine multiplies it faster); parameters stay float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.octaves <= 20, "octaves", "0 to 20")
        self.require(2 <= self.layers <= 32, "layers", "2 to 32")
        self.require(8 <= self.width <= 2048, "width", "8 to 2048")
        self.require(1 <= self.encoded <= 512, "encoded", "1 to 512")
        self.require(8 <= self.hidden <= 256, "hidden", "8 to 256")


def positional_encoding(x: Tensor, octaves: int) -> Tensor:
    """x [N, 3] and sin(2^k x), cos(2^k x) for k < octaves, [N, 3 + 6 * octaves] (NeRF, eq. 4, as its code has it: without pi)."""
    scaled = x[:, None] * (2.0 ** torch.arange(octaves, device=x.device, dtype=x.dtype))[:, None]
    return torch.cat([x, torch.stack([scaled.sin(), scaled.cos()], 2).reshape(x.shape[0], 6 * octaves)], -1)


class MLPEncoder(Encoder):
    """Positional encoding, the backbone with one skip, and the density network."""

    def __init__(self, options: MLPOptions) -> None:
        super().__init__()
        self.octaves, self.precision = options.octaves, options.precision
        self.skip = (options.layers + 1) // 2
        start = 3 + 6 * options.octaves
        layers = []
        for index in range(options.layers):
            inside = start if index == 0 else options.width + (start if index == self.skip else 0)
            out = options.encoded if index + 1 == options.layers else options.width
            layers.append(_Linear(inside, out))
        self.layers = nn.ModuleList(layers)
        self.head = density_head(options.encoded, options.hidden)

    def reset_parameters(self, generator: torch.Generator) -> None:
        for layer in self.layers:
            assert isinstance(layer, _Linear)
            layer.reset_parameters(generator)
        self.head.reset_parameters(generator)

    def forward(self, unit: Tensor) -> Tensor:
        start = positional_encoding(2.0 * clamp_unit(unit) - 1.0, self.octaves)
        weights, biases = [layer.weight for layer in self.layers], [layer.bias for layer in self.layers]
        return self.head(kernels.ops(start.device).backbone(start, weights, biases, self.skip, self.precision))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"name": "backbone", "params": list(self.layers.parameters()), "lr": 1.0, "sparse": False},
            {"name": "density network", "params": list(self.head.parameters()), "lr": 1.0, "sparse": False},
        ]


class _Linear(nn.Module):
    """A layer with bias whose parameters are drawn later; ``weight`` is [out, in]."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, inside))
        self.bias = nn.Parameter(torch.empty(out))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform Xavier weights and zero biases, as NeRF's."""
        uniform_(self.weight, math.sqrt(6.0 / sum(self.weight.shape)), generator)
        nn.init.zeros_(self.bias)


class MLPField(HandoverField):
    """A few megabytes whatever the scene; slow, since every sample passes half a million weights."""

    family: ClassVar[str] = "mlp"
    drops_idle_samples: ClassVar[bool] = True
    render_steps: ClassVar[int] = 384  # samples cost a thousand times a table's; from 512 on lego's pictures stay the same to 0.01 dB
    options: MLPOptions

    def __init__(self, options: MLPOptions, space: Space, layout: dict[str, Any] | None = None) -> None:
        super().__init__(options, space, MLPEncoder(options), options.hidden)
