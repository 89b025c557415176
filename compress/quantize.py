"""From a field's numbers to few different ones: step sizes from sensitivities, symbols by rate and distortion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..representations.entropy import MAX_SYMBOLS, Ints, power_of_two
from ..representations.field import Field
from ..representations.packing import CLASSES, CodedPart, Part, columns, contexts, default_parts

FEWEST = 256
"""Smaller tensors are left alone: float16 costs less than tables."""
PER_COLUMN = 256
"""Stored rows from which on every column has a step size of its own."""
FLOOR = 1e-2
"""Least sensitivity of a number, as a share of its column's mean: what no ray met may still be seen from elsewhere."""
SLOPE = math.log(2.0) / 6.0
"""Squared steps that a bit is worth: what a uniform quantiser at high rate pays (Gray and Neuhoff 1998, section III)."""
_ROUNDS = 3
_MOST_GAIN = np.float32(30.0)
"""Errors of a logarithm of density beyond this one are as bad."""


@dataclass(frozen=True)
class PartPlan:
    """What decides one part's numbers."""

    part: Part
    weights: NDArray[np.float32]
    """h of every number [rows, C]; see :mod:`.sensitivity`."""
    mean: NDArray[np.float64]
    """Mean h of the stored rows, [C] or [1]."""


Plan = Mapping[str, list[PartPlan]]


def make_plan(field: Field, sensitivity: Mapping[str, Tensor]) -> Plan:
    """Which of a field's tensors are packed, and how much each of their numbers matters."""
    cuts, plan = field.packing(), {}
    for name, parameter in field.named_parameters():
        if parameter.numel() < FEWEST:
            continue
        h = sensitivity[name].detach().cpu().numpy().reshape(-1, columns(parameter.shape))
        plan[name] = [_part_plan(part, h[part.begin : part.end]) for part in cuts.get(name) or default_parts(parameter.shape)]
    return plan


def _part_plan(part: Part, h: NDArray[np.float32]) -> PartPlan:
    rows = part.rows
    if part.by_feature:  # a row's numbers are seen by the same rays: their mean is the steadier estimate
        h = np.repeat(h.mean(1, keepdims=True), h.shape[1], 1)
    stored = h[rows].astype(np.float64)
    mean = np.full(h.shape[1], stored.mean() if stored.size else 0.0)
    if len(rows) >= PER_COLUMN and not part.by_feature:
        mean = np.maximum(stored.mean(0), 1e-4 * mean)
    else:
        mean = mean[:1]
    weights = np.maximum(h, (FLOOR * mean).astype(np.float32))
    return PartPlan(part, weights, np.maximum(mean, 1e-30))


def exponents(plan: PartPlan, step: float, largest: float) -> NDArray[np.int16]:
    """Step sizes, in eighths of an octave, that make every number's expected error cost the same, and ``largest`` a possible symbol."""
    least = max(largest, 1e-9) / (MAX_SYMBOLS // 2 - 1)
    wanted = np.ceil(8.0 * np.log2(np.maximum(step / np.sqrt(plan.mean), least)))
    return np.clip(wanted, -240, 160).astype(np.int16)


def quantise(field: Field, plan: Plan, step: float, pressure: float = 1.0) -> dict[str, list[CodedPart]]:
    """Symbols of all planned tensors.

    Args:
        step: error of a number, in colour, that one quantisation step stands for.
        pressure: how much a bit counts against an error; 1 is the balance at high rate.
    """
    state = dict(field.named_parameters())
    out = {}
    for name, parts in plan.items():
        values = state[name].detach().cpu().numpy()
        values = values.reshape(-1, columns(values.shape))
        out[name] = [_quantise_part(p, values[p.part.begin : p.part.end], step, pressure) for p in parts]
    return out


def _quantise_part(plan: PartPlan, values: NDArray[np.float32], step: float, pressure: float) -> CodedPart:
    part = plan.part
    rows = part.rows
    powers = exponents(plan, step, float(np.abs(values[rows]).max(initial=0.0)))
    steps = np.array([power_of_two(int(e)) for e in powers], np.float32)
    symbols = np.zeros(values.shape, np.int32)
    scaled = values[rows] / steps
    stored = np.rint(scaled).astype(np.int32)
    price = SLOPE * pressure * step * step  # of a bit, in squared colour
    weights = plan.weights[rows] * np.square(steps)
    classes = CLASSES[-1]
    for _ in range(_ROUNDS):
        symbols[rows] = stored
        kinds = contexts(part, symbols, classes)[rows]
        base = int(np.abs(stored).max(initial=0))
        bits = _prices(kinds, stored + base, classes, 2 * base + 1)
        nearest = np.clip(np.rint(scaled), -base, base).astype(np.int32)
        units = steps if part.logarithmic else None
        best, cost = nearest, _cost(nearest, scaled, weights, price, bits, kinds, base, units)
        for other in (nearest - np.sign(nearest), np.zeros_like(nearest)):
            found = _cost(other, scaled, weights, price, bits, kinds, base, units)
            best, cost = np.where(found < cost, other, best), np.minimum(found, cost)
        stored = best
    if part.guard is not None:
        stored = np.where(values[rows] <= part.guard, np.rint(scaled).astype(np.int32), stored)
    symbols[rows] = stored
    if stored.size and part.by_feature:
        binary = _binary(part, values, plan.weights, price, float(cost.sum()))
        if binary is not None:
            return binary
    return CodedPart(symbols, powers)


def _cost(symbols: Ints, scaled: NDArray[np.float32], weights: NDArray[np.float32], price: float, bits: NDArray[np.float32],
          kinds: Ints, base: int, units: NDArray[np.float32] | None) -> NDArray[np.float32]:  # fmt: skip
    """Of every number: squared colour error, and the price of its bits. ``units``: step sizes of logarithms of densities.

    A derivative by the logarithm s holds for small errors only: where space is nearly empty it is nearly zero, yet s + e
    is exp(e) times the matter. The error in density, h (exp(e) - 1)^2, says so; a loss of matter counts at least e^2.
    """
    error = symbols - scaled
    if units is not None:
        error = np.maximum(np.expm1(np.minimum(error * units, _MOST_GAIN)) / units, np.abs(error))
    return weights * np.square(error) + np.float32(price) * bits[kinds, symbols + base]


def _prices(kinds: Ints, shifted: Ints, classes: int, alphabet: int) -> NDArray[np.float32]:
    """Bits of each symbol in each class, [classes, alphabet], from how often it occurs now."""
    flat = kinds.ravel().astype(np.int64) * alphabet + shifted.ravel()
    counts = np.bincount(flat, minlength=classes * alphabet).reshape(classes, alphabet) + 0.1
    bits: NDArray[np.float32] = -np.log2(counts / counts.sum(1, keepdims=True)).astype(np.float32)
    return bits


def _binary(part: Part, values: NDArray[np.float32], weights: NDArray[np.float32], price: float, to_beat: float) -> CodedPart | None:
    """The part with one bit per number, plus or minus its mean magnitude (BiRF's tables), where that costs less."""
    rows = part.rows
    found, h = values[rows], weights[rows]
    scale = float((h * np.abs(found)).sum() / h.sum())
    if not scale > 0.0:
        return None
    power = int(np.clip(round(8.0 * math.log2(scale)), -240, 160))
    error = float((h * np.square(np.abs(found) - power_of_two(power))).sum())
    if error + price * found.size >= to_beat:
        return None
    symbols = np.zeros(values.shape, np.int32)
    symbols[rows] = found > 0.0
    return CodedPart(symbols, np.array([power], np.int16), True)


@torch.no_grad()
def apply(field: Field, plan: Plan, coded: Mapping[str, list[CodedPart]]) -> None:
    """Put the quantised numbers into the field's parameters; small tensors become what float16 holds of them."""
    for name, parameter in field.named_parameters():
        if name not in coded:
            parameter.copy_(parameter.half().float())
            continue
        width = columns(parameter.shape)
        values = np.zeros((parameter.numel() // width, width), np.float32)
        for entry, numbers in zip(plan[name], coded[name], strict=True):
            values[entry.part.begin : entry.part.end] = numbers.values(entry.part)
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))
