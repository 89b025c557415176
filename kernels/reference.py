"""The definition of every operation, in PyTorch, on any device and in any floating dtype.

Other implementations offer the same names and signatures (docs/architecture.md, "Kernels") and are
tested against this one.  Where an output carries no gradient, its operation says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .lowered import CPEncoding, GridEncoding, HybridEncoding, LayeredEncoding, Lowered, VMEncoding, VoxelEncoding
from .reference_encode import (
    clamp_unit,
    cp_products,
    grid_encode,
    spherical_harmonics,
    vm_products,
    voxel_corners,
    voxel_interpolate,
)
from .reference_layers import Source, layered, log_of, occupied
from .reference_march import Composited, Samples, box_range, composite, inside_unit, march, to_unit, transmittance
from .reference_saliency import hollow_encode, zero_skip
from .reference_times import TimedPixels, composite_times

__all__ = [
    "Composited",
    "Evaluation",
    "RenderedRays",
    "TimedPixels",
    "Samples",
    "adam_",
    "backbone",
    "box_range",
    "clamp_unit",
    "composite",
    "composite_times",
    "cp_products",
    "evaluate",
    "evaluate_density",
    "grid_encode",
    "inside_unit",
    "march",
    "mean_abs",
    "render_rays",
    "small_mlp",
    "spherical_harmonics",
    "supports",
    "to_unit",
    "transmittance",
    "truncated_exp",
    "vm_products",
    "voxel_interpolate",
]

PlainEncoding = GridEncoding | VMEncoding | CPEncoding | VoxelEncoding | HybridEncoding

_CHUNK = 1 << 18
"""Samples evaluated together by :func:`render_rays`."""


class Evaluation(NamedTuple):
    """A lowered field's answer at N positions seen from N directions."""

    log_density: Tensor  # [N] raw s; density = gate * exp(s), per normalised length
    gate: Tensor  # [N] 1 inside the space and not pruned, else 0
    features: Tensor  # [N, 15] of the hand-over, [N, 3 * B] SH coefficients, or of an edited scene the positions [N, 3]
    rgb: Tensor  # [N, 3] in [0, 1]


class RenderedRays(NamedTuple):
    """What R rays see, premultiplied, without a background."""

    rgb: Tensor  # [R, 3]
    depth: Tensor  # [R] sum of weight * world distance
    opacity: Tensor  # [R]
    cost: Tensor  # [R] int64 samples in front of the termination; no gradient


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=30.0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.exp(x.clamp(-15.0, 15.0))


def truncated_exp(x: Tensor) -> Tensor:
    """exp(x) whose gradient is that of exp(clamp(x, -15, 15)), so that a far-off density can neither explode nor get stuck."""
    return _TruncatedExp.apply(x)  # type: ignore[no-untyped-call]


def supports(lowered: Lowered) -> str | None:
    """Why this implementation cannot evaluate ``lowered``, or None."""
    if isinstance(lowered.encoding, LayeredEncoding):
        return next((reason for source, _ in lowered.encoding.sources if (reason := supports(source))), None)
    if lowered.saliency is not None and not isinstance(lowered.encoding, GridEncoding):
        return "only a grid can have a saliency gate"
    return None


def mlp(x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """Bias-free layers [out, in] with ReLU between them."""
    for index, weight in enumerate(weights):
        x = x @ weight.t()
        if index + 1 < len(weights):
            x = torch.relu(x)
    return x


small_mlp = mlp
"""The operation :func:`mlp`, under a name that no implementation has a module of."""


def backbone(
    start: Tensor,  # [N, S]
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    skip: int,
    precision: str = "float32",
) -> Tensor:
    """NeRF's wide layers [N, encoded]: ReLU between them, ``start`` enters again before layer ``skip`` (Mildenhall et al. 2020, fig. 7).

    ``weights[i]`` is [out, in]. With precision "bfloat16" the products' factors are rounded to it; "auto" leaves the choice
    to the implementation, here bfloat16 on CUDA alone. float64 stays float64.
    """
    half = start.dtype is torch.float32 and (precision == "bfloat16" or (precision == "auto" and start.is_cuda))
    with torch.autocast(start.device.type, torch.bfloat16, enabled=half):
        x = start
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = torch.nn.functional.linear(torch.cat([x, start.to(x.dtype)], -1) if index == skip else x, weight, bias)
            x = torch.relu(x) if index + 1 < len(weights) else x
    return x.to(start.dtype)


def _handover(unit: Tensor, encoding: GridEncoding | VMEncoding | CPEncoding | HybridEncoding, head: tuple[Tensor, ...]) -> Tensor:
    """PVD's 16 numbers at clamped unit coordinates, [N, 16]: raw log density first."""
    if isinstance(encoding, HybridEncoding):
        total: Tensor | None = None
        for branch, branch_head in encoding.branches:
            numbers = _handover(unit, branch, branch_head)
            total = numbers if total is None else total + numbers
        if total is None:
            raise ValueError("a hybrid encoding needs at least one branch")
        return total
    if isinstance(encoding, GridEncoding):
        return mlp(grid_encode(unit, encoding.table, encoding.layout), head)
    if isinstance(encoding, VMEncoding):
        density = vm_products(unit, encoding.density_planes, encoding.density_lines)
        density = mlp(density, head) if head else density
        color = vm_products(unit, encoding.color_planes, encoding.color_lines)
    else:
        density = cp_products(unit, encoding.density_lines)
        color = cp_products(unit, encoding.color_lines)
    return torch.cat([density.sum(-1, keepdim=True) + encoding.shift, color @ encoding.basis.t()], -1)


def _hollow(unit: Tensor, lowered: Lowered, head: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Hand-over numbers of a grid behind a saliency gate, the gate's logarithm in the first, and 1 where it is not pruned, else 0."""
    assert isinstance(lowered.encoding, GridEncoding)
    assert lowered.saliency is not None
    features, live = hollow_encode(unit, lowered.encoding, lowered.saliency)
    numbers = mlp(features, head)
    s = torch.where(live, numbers[:, 0] + zero_skip(features), torch.zeros_like(numbers[:, 0]))
    return torch.cat([s[:, None], numbers[:, 1:]], -1), live.to(unit.dtype)


def _log_density(unit: Tensor, encoding: PlainEncoding, head: tuple[Tensor, ...]) -> Tensor:
    """Only the first of the hand-over's numbers, [N]: what colour alone needs is left out."""
    if isinstance(encoding, HybridEncoding):
        return torch.stack([_log_density(unit, branch, branch_head) for branch, branch_head in encoding.branches]).sum(0)
    if isinstance(encoding, GridEncoding):
        return mlp(grid_encode(unit, encoding.table, encoding.layout), (*head[:-1], head[-1][:1]))[:, 0]
    if isinstance(encoding, VoxelEncoding):
        return voxel_interpolate(unit, encoding.links, encoding.density[:, None], encoding.empty)[:, 0]
    if isinstance(encoding, VMEncoding):
        products = vm_products(unit, encoding.density_planes, encoding.density_lines)
        return (mlp(products, head) if head else products).sum(-1) + encoding.shift
    return cp_products(unit, encoding.density_lines).sum(-1) + encoding.shift


def _unit_and_gate(lowered: Lowered, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Unit coordinates [N, 3], and 1 [N] inside the space and not pruned, else 0."""
    reason = supports(lowered)
    if reason is not None:
        raise ValueError(f"cannot evaluate this field from its tensors alone: {reason}")
    unit = to_unit(positions, lowered.lower, lowered.upper, lowered.unbounded)
    gate = inside_unit(unit)
    if isinstance(lowered.encoding, VoxelEncoding):
        gate &= (voxel_corners(unit, lowered.encoding.links)[0] >= 0).any(-1)
    return unit, gate.to(positions.dtype)


def _geometry(lowered: Lowered, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Block 1: s [N], gate [N], features [N, F]."""
    unit, gate = _unit_and_gate(lowered, positions)
    encoding = lowered.encoding
    if isinstance(encoding, VoxelEncoding):
        s = _log_density(unit, encoding, ())
        return s, gate, voxel_interpolate(unit, encoding.links, encoding.sh, 0.0)
    assert not isinstance(encoding, LayeredEncoding)
    if lowered.saliency is not None:
        numbers, live = _hollow(unit, lowered, lowered.density_head)
        return numbers[:, 0], gate * live, numbers[:, 1:]
    numbers = _handover(unit, encoding, lowered.density_head)
    return numbers[:, 0], gate, numbers[:, 1:]


def evaluate(
    lowered: Lowered,
    positions: Tensor,  # [N, 3] world units
    directions: Tensor,  # [N, 3] unit length
) -> Evaluation:
    """Block 1 and block 2 of a lowered field. Differentiable in its tensors, the positions and the directions; not through gate."""
    if isinstance(lowered.encoding, LayeredEncoding):
        density, rgb = layered(lowered.encoding.layers, _sources(lowered.encoding), positions, directions)
        return Evaluation(*log_of(density), positions, rgb)
    s, gate, features = _geometry(lowered, positions)
    if isinstance(lowered.encoding, VoxelEncoding):
        basis_size = features.shape[-1] // 3
        basis = spherical_harmonics(directions, round(basis_size**0.5)).to(features.dtype)
        rgb = torch.sigmoid((features.reshape(-1, 3, basis_size) * basis[:, None]).sum(-1))
    else:
        basis = spherical_harmonics(directions, 4).to(features.dtype)
        rgb = torch.sigmoid(mlp(torch.cat([basis, features], -1), lowered.color_head))
    return Evaluation(s, gate, features, rgb)


def evaluate_density(lowered: Lowered, positions: Tensor) -> Tensor:
    """gate * exp(s) at positions [N, 3], per normalised length, [N]. Differentiable in the field's tensors and the positions."""
    if isinstance(lowered.encoding, LayeredEncoding):
        return layered(lowered.encoding.layers, _sources(lowered.encoding), positions, None)[0]
    unit, gate = _unit_and_gate(lowered, positions)
    if lowered.saliency is not None:
        head = lowered.density_head
        numbers, live = _hollow(unit, lowered, (*head[:-1], head[-1][:1]))
        return gate * live * truncated_exp(numbers[:, 0])
    return gate * truncated_exp(_log_density(unit, lowered.encoding, lowered.density_head))


def _sources(encoding: LayeredEncoding) -> list[Source]:
    """The sources of an edited scene, each empty where its own occupancy says so."""

    def source(field: Lowered, bits: Tensor) -> Source:
        def answer(positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor | None]:
            seen = occupied(bits, to_unit(positions, field.lower, field.upper, field.unbounded)).to(positions.dtype)
            if directions is None:
                return seen * evaluate_density(field, positions), None
            found = evaluate(field, positions, directions)
            return seen * found.gate * truncated_exp(found.log_density), found.rgb

        return answer

    return [source(field, bits) for field, bits in encoding.sources]


def render_rays(
    lowered: Lowered,
    bits: Tensor,  # [X, Y, Z] bool
    origins: Tensor,  # [R, 3]
    directions: Tensor,  # [R, 3] unit length
    near: Tensor,  # [R]
    far: Tensor,  # [R]
    jitter: Tensor,  # [R]
    edges: Tensor,  # [K + 1]
    scale: float,
    termination: float = 1e-4,
) -> RenderedRays:
    """March, evaluate, composite. ``scale`` is normalised length per world length.

    Works through the rays in chunks of bounded memory; a first pass without gradients finds the samples in front of
    the termination, and only those are evaluated with gradients (again during backward, when there is more than one
    chunk, so that no activation of an earlier chunk is kept).  Differentiable in the field's tensors through rgb,
    depth and opacity.
    """
    samples = march(origins, directions, near, far, jitter, edges, bits, lowered.lower, lowered.upper, lowered.unbounded)
    parts = []
    spans = _ray_spans(samples.offsets)
    for first, last in spans:
        begin, end = int(samples.offsets[first]), int(samples.offsets[last])
        local = samples.offsets[first : last + 1] - begin
        ray, t, delta = samples.rays[begin:end], samples.t[begin:end], samples.delta[begin:end] * scale
        position = origins[ray] + t[:, None] * directions[ray]
        with torch.no_grad():
            through, _ = transmittance(evaluate_density(lowered, position), delta, local)
            live = through >= termination
            counts = torch.zeros(last - first, dtype=torch.int64, device=origins.device).index_add_(0, ray - first, live.to(torch.int64))
            kept = torch.zeros_like(local)
            kept[1:] = counts.cumsum(0)
        arguments = (lowered, position[live], directions[ray[live]], t[live], delta[live], kept, termination)
        if torch.is_grad_enabled() and len(spans) > 1:
            rgb, depth, opacity = checkpoint(_shade, *arguments, use_reentrant=False)
        else:
            rgb, depth, opacity = _shade(*arguments)
        parts.append((rgb, depth, opacity, counts))
    if not parts:
        nothing = origins.new_zeros(0)
        return RenderedRays(origins.new_zeros(0, 3), nothing, nothing, torch.zeros(0, dtype=torch.int64, device=origins.device))
    return RenderedRays(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _shade(
    lowered: Lowered, positions: Tensor, directions: Tensor, t: Tensor, delta: Tensor, offsets: Tensor, termination: float
) -> tuple[Tensor, Tensor, Tensor]:
    s, gate, _, rgb = evaluate(lowered, positions, directions)
    out = composite(gate * truncated_exp(s), rgb, t, delta, offsets, termination)
    return out.rgb, out.depth, out.opacity


def _ray_spans(offsets: Tensor) -> list[tuple[int, int]]:
    """Runs of consecutive rays (first, last + 1) holding at most ``_CHUNK`` samples, or a single ray."""
    ends = offsets.tolist()
    spans, first = [], 0
    for ray in range(1, len(ends)):
        if ends[ray] - ends[first] > _CHUNK and ray - 1 > first:
            spans.append((first, ray - 1))
            first = ray - 1
    if len(ends) > 1:
        spans.append((first, len(ends) - 1))
    return spans


def mean_abs(values: Tensor) -> Tensor:
    """Mean absolute value (the L1 penalty of TensoRF, eq. 14), a scalar. Differentiable; the gradient at 0 is 0."""
    return values.abs().mean()


@torch.no_grad()
def adam_(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
    sparse: bool = False,
    clear: bool = False,
) -> None:
    """One Adam step (Kingma & Ba), in place on ``param``, ``m``, ``v``; ``step`` counts from 1.

    ``sparse`` leaves rows (first dimension) whose whole gradient is zero untouched, moments included.
    ``clear`` leaves ``grad`` zero, for the next step to add to.
    """
    rate, inverse = lr / (1.0 - betas[0] ** step), 1.0 / (1.0 - betas[1] ** step)
    if sparse:
        rows = (grad.reshape(grad.shape[0], -1) != 0).any(-1).nonzero()[:, 0]
        g, m_rows, v_rows = grad[rows], m[rows], v[rows]
        m_rows = betas[0] * m_rows + (1.0 - betas[0]) * g
        v_rows = betas[1] * v_rows + (1.0 - betas[1]) * g * g
        m[rows], v[rows] = m_rows, v_rows
        param[rows] = param[rows] - rate * m_rows / ((v_rows * inverse).sqrt() + eps)
    else:
        m.mul_(betas[0]).add_(grad, alpha=1.0 - betas[0])
        v.mul_(betas[1]).addcmul_(grad, grad, value=1.0 - betas[1])
        param.addcdiv_(m, (v * inverse).sqrt_().add_(eps), value=-rate)
    if clear:
        grad.zero_()
