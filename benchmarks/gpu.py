"""Where a frame's time goes: encode, networks, march, composite, the rest; and the same frame in one launch.

The breakdown of "Hardware Acceleration of Neural Graphics" for our own renderer, at the sizes that paper asks for.
Runs on any device and says on which; on a CPU the ratios are a CPU's.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..errors import UserError
from ..kernels.lowered import GridEncoding, Lowered
from ..kernels.reference import truncated_exp
from ..render.camera import Camera, look_at
from ..render.renderer import tiled_rays
from .machine import settle
from .ngpc import PAPER, SCALES, Accelerator, Frame, emulate
from .operations import SPACE, STEPS, TERMINATION, lowered_field, shell

PHASES = ("rays", "march", "positions", "encode", "mlp", "composite", "picture")
FIELD = ("encode", "mlp")
"""The phases that are the field's; the others are the paper's rest."""
SIZES = {"1080p": (1920, 1080), "4k": (3840, 2160), "8k": (7680, 4320)}
TILE = 8
"""Rays are taken in squares of this many pixels."""
CHUNK = 1 << 17
"""Rays whose samples are in memory together."""


class _Clock:
    """Seconds by phase; waits for the device at every change of phase."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.last = device, dict.fromkeys(PHASES, 0.0), 0.0
        self.start()

    def start(self) -> None:
        settle(self.device)
        self.last = time.perf_counter()

    def phase(self, name: str) -> None:
        """What was done since the last change belongs to ``name``."""
        settle(self.device)
        now = time.perf_counter()
        self.seconds[name] += now - self.last
        self.last = now


def parse_sizes(names: tuple[str, ...]) -> list[tuple[int, int]]:
    """``1080p``, ``4k``, ``8k`` or WIDTHxHEIGHT.

    Raises:
        UserError: something else.
    """
    found = []
    for name in names:
        size = SIZES.get(name.lower())
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", name)
        if size is None and match and 1 <= int(match[1]) <= 16384 and 1 <= int(match[2]) <= 16384:
            size = int(match[1]), int(match[2])
        if size is None:
            raise UserError(f"--size {name}: give {', '.join(SIZES)} or WIDTHxHEIGHT in pixels, each 1 to 16384")
        found.append(size)
    return found


def camera(width: int, height: int) -> Camera:
    """A view of the shell that fills most of the picture."""
    return Camera.perspective(width, height, 40.0, look_at((2.4, 1.8, 1.6), (0.0, 0.0, 0.0)))


def _rays(ops: Any, view: Camera, device: torch.device) -> tuple[Tensor, ...]:
    """Origins, directions, near, far and jitter of a frame's rays, in squares."""
    bundle = tiled_rays(view, device, TILE)
    near, far = ops.box_range(bundle.origins, bundle.directions, SPACE.lower, SPACE.upper)
    return bundle.origins, bundle.directions, near, far, torch.full_like(near, 0.5)


@torch.no_grad()
def unfused(
    ops: Any, lowered: Lowered, bits: Tensor, view: Camera, edges: Tensor, device: torch.device
) -> tuple[dict[str, float], int, Tensor]:
    """A frame by separate operations, every marched sample evaluated: seconds by phase, samples, and the picture."""
    assert isinstance(lowered.encoding, GridEncoding)
    clock = _Clock(device)
    samples = 0
    rays = _rays(ops, view, device)
    clock.phase("rays")
    picture = torch.empty(len(rays[0]), 3, device=device)
    for begin in range(0, len(picture), CHUNK):
        part = slice(begin, begin + CHUNK)
        ray = tuple(values[part] for values in rays)
        found = ops.march(*ray, edges, bits, SPACE.lower, SPACE.upper, False)
        clock.phase("march")
        view_of = ray[1].index_select(0, found.rays)
        unit = SPACE.to_unit(ray[0].index_select(0, found.rays) + found.t[:, None] * view_of)
        clock.phase("positions")
        encoded = ops.grid_encode(unit, lowered.encoding.table, lowered.encoding.layout)
        clock.phase("encode")
        numbers = ops.small_mlp(encoded, lowered.density_head)
        basis = ops.spherical_harmonics(view_of, 4)
        rgb = torch.sigmoid(ops.small_mlp(torch.cat([basis, numbers[:, 1:]], -1), lowered.color_head))
        density = truncated_exp(numbers[:, 0])
        clock.phase("mlp")
        pixels = ops.composite(density, rgb, found.t, found.delta * SPACE.scale, found.offsets, TERMINATION)
        clock.phase("composite")
        picture[part] = pixels.rgb + (1.0 - pixels.opacity)[:, None]
        samples += len(found.t)
        clock.phase("picture")
    return clock.seconds, samples, picture


@torch.no_grad()
def fused(ops: Any, lowered: Lowered, bits: Tensor, view: Camera, edges: Tensor, device: torch.device) -> Callable[[], Tensor]:
    """The work of a frame by the fused renderer, its rays included."""
    most = ops.rays_at_once(lowered) if hasattr(ops, "rays_at_once") else CHUNK

    def work() -> Tensor:
        parts = []
        with torch.no_grad():
            rays = _rays(ops, view, device)
            for begin in range(0, len(rays[0]), most):
                ray = tuple(values[begin : begin + most] for values in rays)
                seen = ops.render_rays(lowered, bits, *ray, edges, SPACE.scale, TERMINATION)
                parts.append(seen.rgb + (1.0 - seen.opacity)[:, None])
        return torch.cat(parts)

    return work


def measure_frame(device: torch.device, width: int, height: int, repeats: int) -> dict[str, Any]:
    """One frame of the shell, unfused by phase and fused, and what the emulator makes of it. JSON-able."""
    ops = kernels.ops(device)
    lowered, bits = lowered_field("hashgrid", device), shell().to(device)
    assert lowered is not None
    assert isinstance(lowered.encoding, GridEncoding)
    edges = torch.linspace(0.0, 2.0 * math.sqrt(3.0), STEPS + 1).to(device)
    view = camera(width, height)
    runs = [unfused(ops, lowered, bits, view, edges, device)[:2] for _ in range(repeats + 1)][1:]
    seconds = {name: sorted(run[0][name] for run in runs)[len(runs) // 2] for name in PHASES}
    work = fused(ops, lowered, bits, view, edges, device)
    spent = []
    for _ in range(repeats + 1):
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        spent.append(time.perf_counter() - start)
    one = sorted(spent[1:])[repeats // 2]
    field = sum(seconds[name] for name in FIELD)
    rest = sum(seconds.values()) - field
    layout = lowered.encoding.layout
    rows = max(b - a for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True))
    frame = Frame(seconds["encode"], seconds["mlp"], rest, runs[0][1] * len(layout.resolutions) * 8.0, rows * layout.features * 2.0)
    return {
        "device": str(device),
        "kernels": str(ops.__name__).rsplit(".", 1)[-1],
        "width": width,
        "height": height,
        "samples": runs[0][1],
        "samples_per_ray": runs[0][1] / (width * height),
        "phases": seconds,
        "unfused": sum(seconds.values()),
        "fused": one,
        "field_share": field / sum(seconds.values()),
        "modelled": {str(n): asdict(emulate(frame, Accelerator(n))) for n in SCALES},
        "paper": {str(n): PAPER["hashgrid"][n] for n in SCALES},
    }


def table(frames: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows for people: size, milliseconds of each phase, unfused, fused, and how many times faster."""
    rows = []
    for f in frames:
        parts = [f"{1e3 * f['phases'][name]:.2f}" for name in PHASES]
        ratio = f["unfused"] / f["fused"]
        rows.append((f"{f['width']}x{f['height']}", *parts, f"{1e3 * f['unfused']:.2f}", f"{1e3 * f['fused']:.2f}", f"{ratio:.1f}x"))
    return rows
