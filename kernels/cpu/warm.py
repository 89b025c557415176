"""Compiles kernels before they are needed, in the background and never silently."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ..dispatch import gradients_in_place
from ..lowered import (
    DENSE,
    CPEncoding,
    GridEncoding,
    GridLayout,
    HybridEncoding,
    Layer,
    LayeredEncoding,
    Lowered,
    VMEncoding,
    VoxelEncoding,
)
from .announce import QUIET, lasting, prepared
from .children import compile_in_children, compiled
from .compositing import composite
from .factor_ops import vm_products
from .marching import box_range, march
from .optim import adam_
from .plan import kind_of, make_plan, supports
from .pointwise import evaluate, evaluate_density
from .render import compile_backward, render_rays
from .times import composite_times

Triple = tuple[Tensor, Tensor, Tensor]


def _head(*widths: int) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(out, inputs) for inputs, out in itertools.pairwise(widths))


def tiny_grid() -> Lowered:
    """The smallest field of the hash-grid family."""
    encoding = GridEncoding(torch.zeros(8, 4), GridLayout((1,), (0, 8), (DENSE,), 4))
    return Lowered((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), False, encoding, _head(4, 16, 16), _head(31, 16, 3))


def tiny_hollow() -> Lowered:
    """The smallest grid behind a saliency gate."""
    return replace(tiny_grid(), saliency=torch.zeros(2, 2, 2))


def _planes(rank: int) -> Triple:
    return torch.zeros(2, 2, rank), torch.zeros(2, 2, rank), torch.zeros(2, 2, rank)


def _lines(rank: int) -> Triple:
    return torch.zeros(2, rank), torch.zeros(2, rank), torch.zeros(2, rank)


def _tiny(encoding: VMEncoding | CPEncoding | VoxelEncoding | HybridEncoding) -> Lowered:
    color = () if isinstance(encoding, VoxelEncoding) else _head(31, 16, 3)
    return Lowered((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), False, encoding, (), color)


def tiny_vm() -> Lowered:
    """The smallest field of the vm family."""
    return _tiny(VMEncoding(_planes(1), _lines(1), _planes(1), _lines(1), torch.zeros(15, 3)))


def tiny_cp() -> Lowered:
    """The smallest field of the cp family."""
    return _tiny(CPEncoding(_lines(1), _lines(1), torch.zeros(15, 1)))


def tiny_voxels() -> Lowered:
    """The smallest field of the voxels family."""
    return _tiny(VoxelEncoding(torch.zeros(1, 1, 1, dtype=torch.int32), torch.zeros(1), torch.zeros(1, 3), 0.0))


USUAL: tuple[type, ...] = (GridEncoding, VMEncoding)
"""Branches of the default composition."""


def tiny_hybrid(kinds: tuple[type, ...] = USUAL) -> Lowered:
    """The smallest composition of encodings of these types."""
    tiny = {GridEncoding: tiny_grid, VMEncoding: tiny_vm, CPEncoding: tiny_cp}
    branches = [tiny[kind]() for kind in kinds]
    return _tiny(HybridEncoding(tuple((branch.encoding, branch.density_head) for branch in branches)))  # type: ignore[misc]


def tiny_moment() -> Lowered:
    """The smallest moment of a mixed field: planes and lines, and some behind a time query, in layers."""
    still = tiny_vm()
    query = replace(still, density_head=_head(3, 16, 1))
    layers = tuple(Layer(k, (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1.0) for k in range(2))
    bits = torch.ones(1, 1, 1, dtype=torch.bool)
    return replace(still, encoding=LayeredEncoding(((still, bits), (query, bits)), layers), color_head=())


TINY: dict[str, Callable[[], Lowered]] = {
    "hashgrid": tiny_grid,
    "hollow": tiny_hollow,
    "vm": tiny_vm,
    "cp": tiny_cp,
    "voxels": tiny_voxels,
    "hybrid": tiny_hybrid,
    "moment": tiny_moment,
}
"""Family -> a field whose evaluation compiles everything its family's training and rendering need."""


ALSO = {"mixed": ("vm", "moment"), "hollow": ("hollow", "hashgrid")}
"""Families that are made of several of these, or become another: a hollow grid is a plain one when pruning has decided."""


PARTS = ("pictures", "gradients")
"""Halves of a family's kernels that take about as long to compile."""
POINTS = "points"
"""What a distillation needs besides: answers at points, with gradients, and rays made of them."""


def compile_for(lowered: Lowered, parts: tuple[str, ...] = PARTS) -> None:
    """Run every kernel of training and rendering once on ``lowered``, whose parameters must be leaves; or some of :data:`PARTS`."""
    if isinstance(lowered.encoding, LayeredEncoding):  # for pictures only; what trains it are operations by themselves
        if "pictures" in parts:
            _picture(lowered)
            evaluate(lowered, torch.zeros(1, 3), torch.zeros(1, 3))
        if "gradients" in parts:
            _compile_times()
        return
    parameters = [*make_plan(lowered).tables, *make_plan(lowered).networks]
    if "pictures" in parts:
        for parameter in parameters:
            parameter.requires_grad_()
        with torch.enable_grad(), gradients_in_place():
            _picture(lowered)
        with torch.no_grad():
            _picture(lowered)
    if "gradients" in parts:
        compile_backward(lowered)
        with torch.no_grad():
            evaluate_density(lowered, torch.zeros(1, 3))
            for parameter in parameters:
                zero = torch.zeros_like(parameter)
                adam_(parameter, zero, zero, zero, 1, 0.0, sparse=parameter.dim() == 2)
    if POINTS in parts:
        _compile_points(lowered, parameters)


def compile_part(part: str, *families: str) -> None:
    """What a child process does: one part for each of ``families``."""
    for family in families:
        compile_for(TINY[family](), (part,))


def _picture(lowered: Lowered) -> None:
    near, far = box_range(torch.tensor([[0.5, 0.5, -1.0]]), torch.tensor([[0.0, 0.0, 1.0]]), lowered.lower, lowered.upper)
    bits = torch.ones(1, 1, 1, dtype=torch.bool)
    rays = (torch.tensor([[0.5, 0.5, -1.0]]), torch.tensor([[0.0, 0.0, 1.0]]), near, far, torch.full((1,), 0.5))
    render_rays(lowered, bits, *rays, torch.tensor([0.0, math.sqrt(3.0)]), 1.0)


def _compile_points(lowered: Lowered, parameters: list[Tensor]) -> None:
    """A lesson of one ray, asked, answered with gradients, and composited."""
    origin, direction, zero = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1)
    bits, edges = torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor([0.0, 1.0])
    march(origin, direction, zero, zero + 1.0, zero, edges, bits, lowered.lower, lowered.upper, lowered.unbounded)
    with torch.no_grad():
        evaluate(lowered, origin, direction)
    with torch.enable_grad(), gradients_in_place():
        for parameter in parameters:
            parameter.requires_grad_()
        found = evaluate(lowered, origin, direction)
        seen = composite(found.log_density.exp(), found.rgb, zero, zero + 1.0, torch.tensor([0, 1]))
        (seen.rgb.sum() + found.features.sum()).backward()


def _compile_times() -> None:
    """The operations that train what moves."""
    unit, factors = torch.zeros(1, 3), (*_planes(1), *_lines(1))
    with torch.enable_grad(), gradients_in_place():
        for factor in factors:
            factor.requires_grad_()
        products = vm_products(unit, factors[:3], factors[3:])
        index, offsets = torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1])
        still = torch.zeros(0), torch.zeros(0, 3)
        seen = composite_times(*still, products[:, :1], products[:, :, None], index, torch.ones(1), offsets)
        seen.rgb.sum().backward()


def compile_look(lowered: Lowered) -> None:
    """Run every kernel of rendering ``lowered`` once."""
    if supports(lowered) is not None:
        return
    middle = torch.tensor([[(a + b) / 2.0 for a, b in zip(lowered.lower, lowered.upper, strict=True)]])
    zero, one = torch.zeros(1), torch.ones(1)
    with torch.no_grad():
        edges = torch.tensor([0.0, 1.0])
        render_rays(lowered, torch.ones(1, 1, 1, dtype=torch.bool), middle, torch.tensor([[0.0, 0.0, 1.0]]), zero, one, zero, edges, 1.0)
        evaluate_density(lowered, middle)


def _branches(encoding: HybridEncoding) -> tuple[type, ...]:
    return tuple(type(branch) for branch, _ in encoding.branches)


def _compile_rare(lowered: Lowered, parts: tuple[str, ...]) -> None:
    """Kernels of a field whose family alone does not tell them."""
    if isinstance(lowered.encoding, HybridEncoding) and supports(lowered) is None:
        compile_for(tiny_hybrid(_branches(lowered.encoding)), parts)
    else:
        compile_look(lowered)


def _family(kind: str | Lowered) -> str | None:
    """Which of :data:`TINY` has the kernels of ``kind``."""
    if isinstance(kind, str):
        return kind if kind in TINY or kind in ALSO else None
    if isinstance(kind.encoding, LayeredEncoding):  # which kernels it needs depends on what it is made of
        return None
    if isinstance(kind.encoding, HybridEncoding) and _branches(kind.encoding) != USUAL:
        return None
    return next((name for name, tiny in TINY.items() if kind_of(tiny()) is kind_of(kind)), None)


def warm_up(
    kinds: Iterable[str | Lowered] = ("hashgrid",),
    background: bool = True,
    message: Callable[[str], None] | None = None,
    points: bool = False,
) -> threading.Thread | None:
    """Load or compile the kernels that training and rendering fields of families ``kinds`` need; unknown families need none.

    Args:
        kinds: names of families, or fields themselves: of an edited one, what its picture needs; of a composition, its own branches.
        background: return a started daemon thread at once; otherwise return None when everything is ready.
        message: told when compiling takes noticeable time, and when it is done. From the background thread.
        points: what a distillation needs, too.
    """
    known = [(kind, _family(kind)) for kind in kinds]
    families = [name for _, family in known if family is not None for name in ALSO.get(family, (family,))]
    rare = [kind for kind, family in known if family is None and not isinstance(kind, str)]

    def work() -> None:
        begin = time.perf_counter()
        done, told = threading.Event(), threading.Event()

        def tell(text: str) -> None:
            told.set()
            if message is not None:
                message(text)

        def announce() -> None:
            if message is not None and not done.wait(QUIET) and not told.is_set():
                message(f"compiling the CPU kernels (first use on this machine, about 20 s; {lasting()})")

        speaker = threading.Thread(target=announce, daemon=True)
        speaker.start()
        try:
            parts = (*PARTS, POINTS) if points else PARTS
            failed = compile_in_children(families, parts, tell)
            with prepared():
                for family in families:
                    compile_for(TINY[family](), parts)
                compiled(failed)
                for lowered in rare:
                    _compile_rare(lowered, parts)
        finally:
            done.set()
            speaker.join()
        seconds = time.perf_counter() - begin
        if message is not None and seconds > QUIET:
            message(f"CPU kernels ready after {seconds:.0f} s")

    if not background:
        work()
        return None
    thread = threading.Thread(target=work, name="fieldmorph-warm-up", daemon=True)
    thread.start()
    return thread
