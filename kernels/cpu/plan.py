"""From a ``Lowered`` field to what the compiled drivers take: a NamedTuple of arrays, sizes, and where gradients belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..lowered import HANDOVER, GridEncoding, Lowered, VMEncoding
from .drive import Shape
from .grid import GridField
from .jit import TILE

SH = 16


def flat(tensor: Tensor) -> np.ndarray:
    """A tensor's memory as a flat float32 array; the tensor must be contiguous float32 on the CPU."""
    return tensor.detach().view(-1).numpy()


@dataclass
class Plan:
    """One field, ready for the drivers."""

    field: Any
    shape: Shape
    tables: list[Tensor]
    """Large parameters: their gradients are scattered to, in this order."""
    networks: list[Tensor]
    """Small weights [out, in], copied into ``field.weights``; their gradients are gathered per lane."""
    places: list[tuple[int, int]]
    """Of each network tensor: offset in the packed array and padded row length."""
    packed: int
    """Length of the packed weights."""
    parts: int
    """Independent parts of the scatter."""


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class Packer:
    """Lays networks out for :mod:`mlp`: rows padded to multiples of 16 inputs, layers to multiples of 16 (last: 4) outputs."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.places: list[tuple[int, int]] = []
        self.length = 0

    def add(self, layers: tuple[Tensor, ...], inputs: int) -> tuple[int, np.ndarray]:
        """Offset of a network and its padded widths; ``inputs`` is the padded width of its input."""
        start, widths = self.length, [inputs]
        for index, layer in enumerate(layers):
            padded = _up(layer.shape[0], 4 if index + 1 == len(layers) else 16)
            self.tensors.append(layer)
            self.places.append((self.length, widths[-1]))
            self.length += padded * widths[-1]
            widths.append(padded)
        return start, np.array(widths, np.int64)

    def pack(self) -> np.ndarray:
        out = np.zeros(self.length, np.float32)
        for tensor, (start, stride) in zip(self.tensors, self.places, strict=True):
            rows, columns = tensor.shape
            out[start : start + rows * stride].reshape(rows, stride)[:, :columns] = tensor.detach().numpy()
        return out


def unpack(plan: Plan, gradient: np.ndarray) -> list[Tensor]:
    """The network tensors' gradients out of a packed array."""
    out = []
    for tensor, (start, stride) in zip(plan.networks, plan.places, strict=True):
        rows, columns = tensor.shape
        out.append(torch.from_numpy(gradient[start : start + rows * stride].reshape(rows, stride)[:, :columns].copy()))
    return out


def activations(widths: np.ndarray) -> int:
    """Numbers a network's hidden activations take on a tile."""
    return int(widths[1:-1].sum()) * TILE


def network_scratch(*widths: np.ndarray) -> int:
    """Numbers :func:`mlp_backward` needs."""
    return 3 * TILE * max(int(w.max()) for w in widths)


def plan_grid(lowered: Lowered, encoding: GridEncoding) -> Plan:
    layout = encoding.layout
    width = _up(layout.width, 16)
    packer = Packer()
    _, density = packer.add(lowered.density_head, width)
    color_at, color = packer.add(lowered.color_head, 2 * SH)
    field = GridField(
        flat(encoding.table), layout.features, np.array(layout.resolutions, np.int64), np.array(layout.offsets, np.int64),
        np.array(layout.kinds, np.int64), packer.pack(), density, color_at, color,
    )  # fmt: skip
    acts = max(activations(density), 2 * SH * TILE + activations(color))
    shape = Shape(width, HANDOVER, acts, 8 * TILE, max(8 * TILE, network_scratch(density, color)), width, HANDOVER)
    return Plan(field, shape, [encoding.table], packer.tensors, packer.places, packer.length, len(layout.resolutions))


class Hollow:
    """Stands for a grid behind a saliency gate among the encodings."""


class Query:
    """Stands for planes and lines whose density products go through a network."""


def kind_of(lowered: Lowered) -> type:
    """What :data:`PLANNERS` and :data:`CHECKS` know a field's encoding by."""
    kind = type(lowered.encoding)
    if kind is VMEncoding and lowered.density_head:
        return Query
    return Hollow if kind is GridEncoding and lowered.saliency is not None else kind


PLANNERS: dict[type, Callable[[Lowered, Any], Plan]] = {GridEncoding: plan_grid}
"""Encoding type -> planner. A family is added here, beside its overloads (see :mod:`fields`)."""


def check_grid(lowered: Lowered) -> str | None:
    encoding = lowered.encoding
    assert isinstance(encoding, GridEncoding)
    if encoding.layout.features > 16:
        return "a grid with more than 16 features a row has no compiled kernel"
    if not lowered.density_head:
        return "a grid without a density network has no compiled kernel"
    return None


CHECKS: dict[type, Callable[[Lowered], str | None]] = {GridEncoding: check_grid}


def supports(lowered: Lowered) -> str | None:
    """Why the compiled kernels cannot evaluate ``lowered``, or None."""
    kind = kind_of(lowered)
    if kind not in PLANNERS:
        return f"no compiled kernel for {kind.__name__}"
    if lowered.saliency is not None and kind is not Hollow:
        return f"a saliency gate on {kind.__name__} has no compiled kernel"
    reason = CHECKS[kind](lowered) if kind in CHECKS else None
    if reason is not None:
        return reason
    plan_tensors = [*lowered.density_head, *lowered.color_head, *encoding_tensors((lowered.encoding, lowered.saliency))]
    for tensor in plan_tensors:
        if tensor.device.type != "cpu":
            return f"the field is on {tensor.device}"
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            return f"its parameters are {str(tensor.dtype).removeprefix('torch.')}, the compiled kernels compute in float32"
        if not tensor.is_contiguous():
            return "a parameter is not contiguous in memory"
    if any(max(w.shape) > 256 for w in (*lowered.density_head, *lowered.color_head)):
        return "a network wider than 256 has no compiled kernel"
    return None


def encoding_tensors(encoding: Any) -> list[Tensor]:
    """All tensors among an encoding's fields, nested tuples and branches included."""
    if isinstance(encoding, Tensor):
        return [encoding]
    if isinstance(encoding, tuple):
        return [tensor for item in encoding for tensor in encoding_tensors(item)]
    if hasattr(encoding, "__dataclass_fields__"):
        return [tensor for name in encoding.__dataclass_fields__ for tensor in encoding_tensors(getattr(encoding, name))]
    return []


def make_plan(lowered: Lowered) -> Plan:
    return PLANNERS[kind_of(lowered)](lowered, lowered.encoding)


LOOKERS: dict[type, Callable[[Lowered, Any], Plan | None]] = {}
"""Encoding type -> planner for renderings without gradients, where another form of the same numbers is faster (half precision)."""


def looking_plan(lowered: Lowered) -> Plan:
    """The plan for a rendering without gradients."""
    from ..dispatch import precision_is_full

    kind = kind_of(lowered)
    plan = LOOKERS[kind](lowered, lowered.encoding) if kind in LOOKERS and not precision_is_full() else None
    return make_plan(lowered) if plan is None else plan
