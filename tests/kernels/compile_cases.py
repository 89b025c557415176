"""Calls that between them launch every Triton kernel in the shapes real fields have."""

from __future__ import annotations

import torch
from kernel_cases import directions

from fieldmorph.kernels import cuda
from fieldmorph.kernels.lowered import Lowered
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

SPACE = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def field(family: str, **settings: str) -> Lowered:
    lowered = build(family, settings or None, SPACE, seed=0).lower()
    assert lowered is not None
    return lowered


def gradients(*outputs: torch.Tensor) -> None:
    torch.autograd.backward(outputs, [torch.zeros_like(o) for o in outputs])


def grid() -> None:
    lowered = field("hashgrid", log2_table="10")
    unit = torch.rand(70, 3)
    gradients(cuda.grid_encode(unit, lowered.encoding.table, lowered.encoding.layout))  # type: ignore[union-attr]


def networks() -> None:
    lowered = field("hashgrid", log2_table="10")
    found = cuda.evaluate(lowered, torch.rand(70, 3), directions(70))
    gradients(found.log_density, found.features, found.rgb)
    gradients(cuda.evaluate_density(lowered, torch.rand(70, 3)))


def wide() -> None:
    """The widest networks that the kernels take."""
    lowered = field("hashgrid", log2_table="10", hidden="128")
    found = cuda.evaluate(lowered, torch.rand(70, 3), directions(70))
    gradients(found.log_density, found.features, found.rgb)
    with torch.no_grad():
        cuda.render_rays(lowered, *along(), 1.0, 1e-3, capacity=100)


def adam() -> None:
    for shape in ((64, 4), (100,)):
        tensors = [torch.zeros(shape) for _ in range(4)]
        cuda.adam_(*tensors, 1, 0.1, sparse=len(shape) > 1, clear=True)


def along(unbounded: bool = False) -> tuple[torch.Tensor, ...]:
    """Arguments of march and render_rays after the field: bits, then rays and lattice."""
    ones = torch.ones(70)
    far = ones * (torch.inf if unbounded else 4.0)
    return (
        torch.ones(16, 16, 16, dtype=torch.bool),
        directions(70),
        directions(70, 2),
        0.0 * ones,
        far,
        0.5 * ones,
        torch.linspace(0, 4, 33),
    )


def march() -> None:
    """Nothing is run, so that a march finds no sample: its second half is launched with room given."""
    cuda.load()
    from fieldmorph.kernels.cuda.marching import walk

    for unbounded in (False, True):
        bits, *rays = along(unbounded)
        walk(*rays, bits, SPACE.lower, SPACE.upper, unbounded, capacity=100)


def composite() -> None:
    from fieldmorph.kernels.cuda.compositing import compacted, live_counts
    from fieldmorph.kernels.cuda.marching import Marched

    offsets = torch.tensor([0, 40, 70])
    density, rgb = torch.rand(70).requires_grad_(), torch.rand(70, 3).requires_grad_()
    found = cuda.composite(density, rgb, torch.rand(70), torch.rand(70), offsets, 1e-4)
    gradients(*found)
    counts = live_counts(density, torch.rand(70), offsets, 1e-4)
    compacted(Marched(torch.zeros(70, dtype=torch.int64), torch.rand(70), torch.rand(70), offsets, torch.rand(70, 3)), counts)


def render() -> None:
    for family, settings in (("hashgrid", {"log2_table": "10"}), ("vm", {"start": "8", "final": "8"}), ("cp", {"start": "8", "final": "8"}),
                             ("voxels", {"start": "8", "final": "8"})):  # fmt: skip
        lowered = field(family, **settings)
        for context in (torch.enable_grad, torch.no_grad):
            with context():
                found = cuda.render_rays(lowered, *along(), 1.0, 1e-3, capacity=100)
            if found.rgb.requires_grad:
                gradients(found.rgb)


CASES = {"grid": grid, "networks": networks, "wide": wide, "adam": adam, "march": march, "composite": composite, "render": render}
