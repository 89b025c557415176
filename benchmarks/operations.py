"""Every operation of kernels/, timed per implementation on the samples of one picture's rays."""

from __future__ import annotations

import contextlib
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..errors import UserError
from ..kernels.lowered import CPEncoding, GridEncoding, Lowered, VMEncoding, VoxelEncoding
from ..render.camera import Camera, look_at
from ..representations.registry import build, get_family, still_families
from ..representations.space import Space
from .machine import Roofline, timed

SPACE = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
STEPS = 1024
"""Samples along the box's diagonal."""
TERMINATION = 1e-3


@dataclass(frozen=True)
class Case:
    """One operation on one input. ``prepare(ops)`` gives the work for an implementation."""

    name: str
    items: int
    unit: str
    prepare: Callable[[Any], Callable[[], Any]]
    flops: float = 0.0
    """Operations the work needs, where arithmetic bounds it."""
    bytes: float = 0.0
    """Bytes it must move, where memory bounds it."""


@dataclass(frozen=True)
class View:
    """Rays of a picture in tiles, the shell of matter they meet, and their samples."""

    origins: Tensor
    directions: Tensor
    near: Tensor
    far: Tensor
    jitter: Tensor
    edges: Tensor
    bits: Tensor
    rays: Tensor
    positions: Tensor
    t: Tensor
    delta: Tensor
    offsets: Tensor


def shell(resolution: int = 128) -> Tensor:
    """Occupancy of a surface: the cells around a sphere of radius 0.7, about as full as a trained field's."""
    axis = (torch.arange(resolution) + 0.5) / resolution * 2.0 - 1.0
    radius = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    return (radius - 0.7).abs() < 0.05


def make_view(samples: int, tile: int = 16) -> View:
    """Rays of a camera, tile by tile, whose occupied samples number about ``samples``."""
    ops = kernels.ops("cpu")
    bits = shell()
    edges = torch.linspace(0.0, 2.0 * math.sqrt(3.0), STEPS + 1)
    side = 128
    while True:
        camera = Camera.perspective(side, side, 40.0, look_at((2.4, 1.8, 1.6), (0.0, 0.0, 0.0)))
        bundle = camera.rays()
        order = torch.arange(side * side).view(side // tile, tile, side // tile, tile).transpose(1, 2).reshape(-1)
        origins, directions = bundle.origins[order].contiguous(), bundle.directions[order].contiguous()
        near, far = ops.box_range(origins, directions, SPACE.lower, SPACE.upper)
        jitter = torch.full((len(near),), 0.5)
        found = ops.march(origins, directions, near, far, jitter, edges, bits, SPACE.lower, SPACE.upper, False)
        if len(found.t) >= samples or side >= 1024:
            break
        side *= 2
    last = int(torch.searchsorted(found.offsets, torch.tensor(samples), right=True)) - 1
    last = max(1, min(last, len(near)))
    end = int(found.offsets[last])
    ray, t = found.rays[:end], found.t[:end]
    positions = origins[ray] + t[:, None] * directions[ray]
    rays = (origins[:last], directions[:last], near[:last], far[:last], jitter[:last])
    return View(*rays, edges, bits, ray, positions, t, found.delta[:end], found.offsets[: last + 1])


def lowered_field(family: str, device: torch.device | str = "cpu") -> Lowered | None:
    """A field of the family with its default options and random parameters, dense enough to hide what lies behind it."""
    field = build(family, None, SPACE, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in field.parameters():
            if parameter.dim() > 1 and parameter.abs().max() < 1e-2:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return field.to(device).lower()


def tensors_of(lowered: Lowered) -> list[Tensor]:
    """The parameters a fused operation gives gradients for."""
    found: list[Tensor] = []

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            if value.requires_grad:
                found.append(value)
        elif isinstance(value, tuple):
            for item in value:
                walk(item)
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                walk(getattr(value, name))

    walk(lowered)
    return found


def backward(work: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Callable[[], None]:
    """Forward and backward as training does it: gradients are added to those that are there."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)

    def run() -> None:
        with torch.enable_grad(), kernels.gradients_in_place():
            work().sum().backward()  # type: ignore[no-untyped-call]

    return run


def field_cases(family: str, view: View) -> Iterator[Case]:
    """Fused evaluation and rendering of one family; nothing where it has no fused form."""
    lowered = lowered_field(family, view.t.device)
    if lowered is None:
        return
    parameters = tensors_of(lowered)
    count = len(view.t)
    directions = view.directions[view.rays]
    flops = 2.0 * count * sum(w.numel() for w in (*lowered.density_head, *lowered.color_head))

    def colour(ops: Any) -> Tensor:
        answer = ops.evaluate(lowered, view.positions, directions)
        return answer.rgb + answer.log_density[:, None]

    def picture(ops: Any) -> Tensor:
        rays = (view.origins, view.directions, view.near, view.far, view.jitter)
        return ops.render_rays(lowered, view.bits, *rays, view.edges, SPACE.scale, TERMINATION).rgb

    for name, work, items, unit, needed in (
        ("evaluate", colour, count, "samples", flops),
        ("render", picture, len(view.near), "rays", 0.0),
    ):
        yield Case(f"{name} {family}", items, unit, lambda ops, work=work: torch.no_grad()(lambda: work(ops)), needed)  # type: ignore[misc]
        yield Case(
            f"{name} {family}, with gradients",
            items,
            unit,
            lambda ops, work=work: backward(lambda: work(ops), parameters),  # type: ignore[misc]
            3.0 * needed,
        )


def encoding_cases(family: str, view: View) -> Iterator[Case]:
    """The family's encoding on its own."""
    lowered = lowered_field(family, view.t.device)
    if lowered is None:
        return
    unit = SPACE.to_unit(view.positions)
    match lowered.encoding:
        case GridEncoding(table, layout):
            name, parameters = "grid_encode", [table]

            def work(ops: Any) -> Tensor:
                return ops.grid_encode(unit, table, layout)

        case VMEncoding():
            planes, lines = lowered.encoding.color_planes, lowered.encoding.color_lines
            name, parameters = "vm_products", [*planes, *lines]

            def work(ops: Any) -> Tensor:
                return ops.vm_products(unit, planes, lines)

        case CPEncoding():
            lines = lowered.encoding.color_lines
            name, parameters = "cp_products", list(lines)

            def work(ops: Any) -> Tensor:
                return ops.cp_products(unit, lines)

        case VoxelEncoding(links, _, sh, _):
            name, parameters = "voxel_interpolate", [sh]

            def work(ops: Any) -> Tensor:
                return ops.voxel_interpolate(unit, links, sh)

        case _:
            return
    yield Case(name, len(unit), "samples", lambda ops: torch.no_grad()(lambda: work(ops)))
    yield Case(f"{name}, with gradients", len(unit), "samples", lambda ops: backward(lambda: work(ops), parameters))


def networks_case(family: str, samples: int) -> Iterator[Case]:
    """A hash grid's two networks without the encoding: the part that arithmetic bounds."""
    lowered = lowered_field(family)
    if lowered is None or not isinstance(lowered.encoding, GridEncoding) or not lowered.density_head:
        return
    heads = (lowered.density_head, lowered.color_head)
    inputs = [torch.rand(samples, head[0].shape[1]) for head in heads]

    def prepare(ops: Any) -> Callable[[], Any]:
        if hasattr(ops, "networks_alone"):
            return lambda: ops.networks_alone(lowered, samples)

        @torch.no_grad()
        def eager() -> None:
            for head, x in zip(heads, inputs, strict=True):
                for weight in head[:-1]:
                    x = torch.relu(x @ weight.T)
                x @ head[-1].T

        return eager

    flops = 2.0 * samples * sum(weight.numel() for head in heads for weight in head)
    yield Case(f"networks of {family}", samples, "samples", prepare, flops)


def ray_cases(view: View) -> Iterator[Case]:
    """Marching and compositing."""
    box = (SPACE.lower, SPACE.upper, False)
    rays = (view.origins, view.directions, view.near, view.far, view.jitter)
    yield Case("march", len(view.near), "rays", lambda ops: lambda: ops.march(*rays, view.edges, view.bits, *box))
    generator = torch.Generator().manual_seed(2)
    device = view.t.device
    density = (20.0 * torch.rand(len(view.t), generator=generator)).to(device).requires_grad_()
    rgb = torch.rand(len(view.t), 3, generator=generator).to(device).requires_grad_()

    def work(ops: Any) -> Tensor:
        return ops.composite(density, rgb, view.t, view.delta * SPACE.scale, view.offsets, TERMINATION).rgb

    yield Case("composite", len(view.t), "samples", lambda ops: torch.no_grad()(lambda: work(ops)))
    yield Case("composite, with gradients", len(view.t), "samples", lambda ops: backward(lambda: work(ops), [density, rgb]))


def adam_case(rows: int = 1 << 20, width: int = 4, touched: float = 0.1, device: torch.device | str = "cpu") -> Case:
    """A step over a table of which a tenth of the rows has a gradient."""
    generator = torch.Generator().manual_seed(3)
    grad = (torch.randn(rows, width, generator=generator) * (torch.rand(rows, 1, generator=generator) < touched)).to(device)
    param, m, v = (torch.zeros(rows, width, device=device) for _ in range(3))
    row = 4.0 * width
    moved = rows * row + touched * rows * 6.0 * row  # every gradient is read; parameter and moments are read and written
    return Case(
        "adam, a tenth of the rows", rows, "rows", lambda ops: lambda: ops.adam_(param, grad, m, v, 1, 1e-2, sparse=True), bytes=moved
    )


def cases(chosen: Sequence[str], samples: int, device: torch.device | str = "cpu") -> Iterator[Case]:
    """All benchmarks of operations, for the families ``chosen``."""
    view = View(*(tensor.to(device) for tensor in vars(make_view(samples)).values()))
    yield from ray_cases(view)
    yield adam_case(device=device)
    for family in chosen:
        yield from encoding_cases(family, view)
    for family in chosen:
        yield from networks_case(family, samples)
        yield from field_cases(family, view)


def cancel_latency(repeats: int = 9) -> dict[str, float]:
    """Seconds from setting a cancel flag to the end of a rendering in progress: median and worst."""
    lowered, view = lowered_field("hashgrid"), make_view(1 << 18)
    ops = kernels.ops("cpu")
    assert lowered is not None
    rays = (view.origins, view.directions, view.near, view.far, view.jitter)
    spent: list[float] = []
    for _ in range(repeats + 1):
        flag, ended = ops.CancelFlag(), list[float]()

        def work(flag: Any = flag, ended: list[float] = ended) -> None:
            with torch.no_grad(), contextlib.suppress(ops.Cancelled):
                while True:
                    ops.render_rays(lowered, view.bits, *rays, view.edges, SPACE.scale, TERMINATION, cancel=flag)
            ended.append(time.perf_counter())

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.1)
        begin = time.perf_counter()
        flag.set()
        thread.join()
        spent.append(ended[0] - begin)
    return {"median": statistics.median(spent[1:]), "worst": max(spent[1:])}


def implementations(device: torch.device | str = "cpu", only: str = "auto") -> dict[str, Any]:
    """Those that can be used on a device here, the reference first; or the reference and ``only`` this one."""
    before = kernels.chosen()
    found: dict[str, Any] = {}
    try:
        for name in kernels.CHOICES:
            if name == "auto" or (only != "auto" and name not in ("reference", only)):
                continue
            with contextlib.suppress(UserError):  # not usable here
                kernels.set_kernels(name)
                ops = kernels.ops(device)
                if name == "reference" or ops is not found.get("reference"):
                    found[name] = ops
    finally:
        kernels.set_kernels(before)
    return found


def measure(case: Case, among: dict[str, Any], repeats: int, roof: Roofline, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Rates of one case per implementation, ratios to the reference, shares of the roofline. JSON-able."""
    seconds = timed([case.prepare(ops) for ops in among.values()], repeats, device)
    reference = seconds[0]
    rows = {}
    for name, spent in zip(among, seconds, strict=True):
        row: dict[str, float] = {"seconds": spent, "rate": case.items / spent, "ratio": reference / spent}
        if case.flops:
            row["flops_share"] = case.flops / spent / roof.flops
        if case.bytes:
            row["bytes_share"] = case.bytes / spent / roof.bytes
        rows[name] = row
    return {"name": case.name, "items": case.items, "unit": case.unit, "implementations": rows}


def known_families(chosen: Sequence[str]) -> list[str]:
    """``chosen``, or all there are. Raises UserError through the registry for an unknown one."""
    return [get_family(name).name for name in chosen] if chosen else list(still_families())
