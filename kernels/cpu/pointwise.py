"""``evaluate`` and ``evaluate_density``: a lowered field at single positions, behind torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..dispatch import gradients_are_in_place
from ..lowered import Lowered
from ..reference import Evaluation
from . import points
from .gradients import scatter, table_gradients
from .jit import TILE
from .marching import array32
from .plan import Plan, make_plan, supports, unpack
from .points import Answer, Demand, evaluate_points, points_backward
from .pool import launch

_EACH = 16
"""Tiles a thread takes at once."""
_MOST_LANES = 64


def _box(lowered: Lowered) -> np.ndarray:
    return np.array([*lowered.lower, *(b - a for a, b in zip(lowered.lower, lowered.upper, strict=True))], np.float32)


def _lanes(count: int) -> tuple[int, int]:
    """Tiles of a backward lane and the number of lanes, by the number of positions alone."""
    tiles = -(-count // TILE)
    each = max(8, -(-tiles // _MOST_LANES))
    return each, -(-tiles // each)


def _run(
    plan: Plan, lowered: Lowered, positions: np.ndarray, directions: np.ndarray, full: bool, keep: bool
) -> tuple[Answer, list[Tensor]]:
    count = positions.shape[0]
    tiles = -(-count // TILE) if keep else 0
    size = count if full else 0
    s, gate, features, rgb = torch.empty(count), torch.empty(count), torch.empty(size, plan.shape.hand - 1), torch.empty(size, 3)
    f = np.float32
    answer = Answer(
        s.numpy(),
        gate.numpy(),
        features.numpy(),
        rgb.numpy(),
        np.empty(tiles * plan.shape.encoded * TILE, f),
        np.empty(tiles * 3 * TILE, f),
    )
    launch(
        evaluate_points, plan.field, plan.shape, positions, directions, _box(lowered), lowered.unbounded, answer, _EACH,
        np.zeros(1, np.int64), most=-(-count // (TILE * _EACH)),
    )  # fmt: skip
    return answer, [s, gate, features, rgb]


class _Points(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        lowered: Lowered,
        positions: np.ndarray,
        directions: np.ndarray,
        full: bool,
        in_place: bool,
        *parameters: Tensor,
    ) -> Any:
        answer, outputs = _run(plan, lowered, positions, directions, full, keep=True)
        ctx.plan, ctx.answer, ctx.directions, ctx.full, ctx.in_place = plan, answer, directions, full, in_place
        ctx.save_for_backward(*parameters)
        ctx.mark_non_differentiable(outputs[1])
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        plan: Plan = ctx.plan
        parameters = ctx.saved_tensors  # raises if a parameter was changed in place since
        count = ctx.answer.log_density.shape[0]
        s, _, features, rgb = gradients
        none = np.zeros(0, np.float32)
        demand = Demand(
            none if s is None else array32(s),
            none.reshape(0, plan.shape.hand - 1) if features is None or not ctx.full else array32(features),
            none.reshape(0, 3) if rgb is None or not ctx.full else array32(rgb),
        )
        each, lanes = _lanes(count)
        weight_grads = np.zeros((lanes, plan.packed), np.float32)
        dx = np.empty_like(ctx.answer.x)
        launch(
            points_backward, plan.field, plan.shape, ctx.directions, ctx.answer, demand, dx, weight_grads, each, np.zeros(1, np.int64),
            most=lanes,
        )  # fmt: skip
        tables, returned = table_gradients(parameters[: len(plan.tables)], ctx.needs_input_grad[6:], ctx.in_place)
        if tables is not None:
            tiles = -(-count // TILE)
            counts = np.full(tiles, TILE, np.int32)
            if tiles:
                counts[-1] = count - (tiles - 1) * TILE
            scatter(plan, ctx.answer.unit, dx, np.arange(tiles), counts, tables)
        return (None, None, None, None, None, None, *returned, *unpack(plan, weight_grads.sum(0)))


def _falls_back(lowered: Lowered, positions: Tensor, directions: Tensor) -> bool:
    if positions.dtype != torch.float32 or positions.requires_grad or directions.requires_grad:
        return True
    return supports(lowered) is not None


def _points(lowered: Lowered, positions: Tensor, directions: Tensor, full: bool) -> list[Tensor]:
    plan = make_plan(lowered)
    arrays = array32(positions), array32(directions)
    parameters = (*plan.tables, *plan.networks)
    if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
        return list(_Points.apply(plan, lowered, *arrays, full, gradients_are_in_place(), *parameters))
    return _run(plan, lowered, *arrays, full, keep=False)[1]


def evaluate(
    lowered: Lowered,
    positions: Tensor,  # [N, 3] world units
    directions: Tensor,  # [N, 3] unit length
) -> Evaluation:
    """Block 1 and block 2 in one pass; see :func:`reference.evaluate`. Differentiable in the field's tensors."""
    if _falls_back(lowered, positions, directions):
        return reference.evaluate(lowered, positions, directions)
    return Evaluation(*_points(lowered, positions, directions, full=True))


def evaluate_density(lowered: Lowered, positions: Tensor) -> Tensor:
    """gate * exp(s) at positions [N, 3]; see :func:`reference.evaluate_density`. Differentiable in the field's tensors."""
    if _falls_back(lowered, positions, positions):
        return reference.evaluate_density(lowered, positions)
    s, gate, *_ = _points(lowered, positions, positions, full=False)
    return gate * reference.truncated_exp(s)


def networks_alone(lowered: Lowered, samples: int) -> None:
    """Evaluate a field's networks for so many samples whose encodings are at hand, for benchmarks: their share of the roofline."""
    plan, tiles = make_plan(lowered), -(-samples // TILE)
    launch(points.networks_alone, plan.field, plan.shape, tiles, np.zeros(1, np.int64), most=tiles)
