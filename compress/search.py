"""Which settings meet a size or a loss of quality: the search behind ``fieldmorph compress``."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..render.renderer import render_rays
from ..render.types import Rays, RenderSettings
from ..representations.field import Field
from ..representations.field_file import save_field
from ..training.metrics import mse_to_psnr
from .quantize import Plan, apply, make_plan, quantise

PRESSURE = 0.5
"""Measured on lego (hash grid, VM, voxels): at equal size, steps this much finer with less zeroing lose least."""
START = 8e-6
"""First step tried, in colour."""
FINEST, COARSEST = 1e-8, 1e-2
ASSUMED_PSNR = 32.0
"""Without photographs, the quality that a field is taken to have: the better it is, the more an error shows."""
TRIES = 9
LEAST_SPENT = 0.05
"""Share of an allowed loss that counts as spent at least. Fine steps lose nothing, or by chance a little less: the logarithm of that is
no place on a line."""
LEAP = math.log(6.0)
"""Furthest that one try goes beyond all that is known, in logarithms of the step: a field of nothing but zeros tells little."""


@dataclass(frozen=True)
class Goal:
    """What a packed field must keep to; exactly one of the two."""

    size: int | None = None
    """Most bytes of the file."""
    drop: float | None = None
    """Most dB of PSNR lost."""

    def spent(self, candidate: Candidate) -> float:
        """Share of the allowance used; at most 1 is within the goal."""
        if self.size is not None:
            return candidate.size / self.size
        assert self.drop is not None
        return max(candidate.drop / self.drop, LEAST_SPENT)

    @property
    def rising(self) -> bool:
        """Whether coarser steps use more of the allowance."""
        return self.size is None


@dataclass(frozen=True)
class Candidate:
    """One setting, measured."""

    step: float
    size: int
    """Bytes of the whole file."""
    drop: float
    """dB below the unpacked field, on the probe's rays."""


class Probe:
    """Fixed rays on which a field is compared with photographs, or with the unpacked field where there are none."""

    def __init__(self, field: Field, rays: Rays, settings: RenderSettings, photographed: Tensor | None, split: str | None = None) -> None:
        self.rays, self.settings, self.split = rays, settings, split
        with torch.no_grad():
            before = self._render(field)
        self.target = before if photographed is None else photographed
        self.mse = 10.0 ** (-ASSUMED_PSNR / 10.0) if photographed is None else float((before - photographed).square().mean())
        self._added = self.mse if photographed is None else 0.0

    def _render(self, field: Field) -> Tensor:
        return render_rays(field, self.rays, self.settings).rgb.clamp(0.0, 1.0)

    @property
    def psnr(self) -> float:
        """Of the unpacked field, dB (assumed where there are no photographs)."""
        return mse_to_psnr(self.mse)

    @torch.no_grad()
    def drop(self, field: Field) -> float:
        """dB that ``field`` lies below the unpacked one."""
        error = float((self._render(field) - self.target).square().mean()) + self._added
        return self.psnr - mse_to_psnr(error)


class Packer:
    """One field at many settings. The field's own parameters stay as they are until :meth:`pack`.

    Args:
        folder: where trial files may be written.
        measure: the sensitivities of a field's parameters.
    """

    def __init__(self, field: Field, probe: Probe, folder: Path, measure: Callable[[Field], dict[str, Tensor]]) -> None:
        self.field, self.probe, self.folder, self.measure = field, probe, folder, measure
        self.trial = copy.deepcopy(field)
        self.sensitivity = measure(field)
        self.plan: Plan = make_plan(field, self.sensitivity)

    def refine(self, step: float) -> None:
        """Measure again where quantising has led, and go by the mean.

        A derivative at the field itself says nothing of what large errors do: in empty space it is zero, until an
        error makes matter appear there.
        """
        self._quantise(step)
        again = self.measure(self.trial)
        self.sensitivity = {name: 0.5 * (h + again[name]) for name, h in self.sensitivity.items()}
        self.plan = make_plan(self.field, self.sensitivity)

    def _quantise(self, step: float) -> Any:
        coded = quantise(self.field, self.plan, step, PRESSURE)
        self.trial.load_state_dict(self.field.state_dict())
        self.trial.metadata = self.field.metadata
        apply(self.trial, self.plan, coded)
        return coded

    def try_step(self, step: float) -> Candidate:
        coded = self._quantise(step)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".packing-") as folder:
            path = Path(folder) / "trial.field"
            save_field(self.trial, path, "float16", coded)
            size = path.stat().st_size
        return Candidate(step, size, self.probe.drop(self.trial))

    def pack(self, step: float, path: Path) -> Field:
        """Write the packed field; returns it as its file holds it."""
        coded = self._quantise(step)
        save_field(self.trial, path, "float16", coded)
        return self.trial


def search(
    evaluate: Callable[[float], Candidate],
    goal: Goal,
    *,
    start: float = START,
    tries: int = TRIES,
    tolerance: float = 0.03,
    on_try: Callable[[Candidate], None] | None = None,
) -> Candidate:
    """The setting that uses as much of the goal's allowance as it may, to within ``tolerance``; else the nearest one found.

    Size and loss are close to powers of the step, so a secant in logarithms, kept inside the bracket, needs few tries.
    """
    tried: list[tuple[float, float, Candidate]] = []  # log step, log share used
    x = math.log(start)
    for _ in range(tries):
        candidate = evaluate(math.exp(x))
        if on_try is not None:
            on_try(candidate)
        tried.append((x, math.log(goal.spent(candidate)), candidate))
        within = [y for _, y, _ in tried if y <= 0.0]
        if within and max(within) > -tolerance:
            break
        x = _next(tried, goal.rising)
        if any(abs(x - other) < 1e-3 for other, _, _ in tried):
            break
    kept = [entry for entry in tried if entry[1] <= 0.0]
    if not kept:
        return min(tried, key=lambda entry: entry[1])[2]
    return max(kept, key=lambda entry: (entry[1], -entry[2].size))[2]


def _next(tried: list[tuple[float, float, Candidate]], rising: bool) -> float:
    """Where the share used should come out just below 1."""
    aim = -0.015
    sign = 1.0 if rising else -1.0
    low = max((x for x, y, _ in tried if sign * y < sign * aim), default=math.log(FINEST))
    high = min((x for x, y, _ in tried if sign * y > sign * aim), default=math.log(COARSEST))
    nearest = sorted(tried, key=lambda entry: (abs(entry[1] - aim), -sign * entry[0]))[:2]
    slope = sign * (1.2 if rising else 0.7)
    if len(nearest) == 2 and nearest[0][0] != nearest[1][0]:
        found = (nearest[0][1] - nearest[1][1]) / (nearest[0][0] - nearest[1][0])
        slope = found if sign * found > 0.1 else slope
    x = nearest[0][0] + (aim - nearest[0][1]) / slope
    margin = 0.05 * (high - low)
    x = min(max(x, low + margin), high - margin)
    places = [place for place, _, _ in tried]
    return min(max(x, min(places) - LEAP), max(places) + LEAP)
