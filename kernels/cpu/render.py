"""``render_rays``: the fused renderer behind torch's autograd."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..cancel import CancelFlag, Cancelled
from ..lowered import Lowered
from ..reference import RenderedRays
from .drive import Outputs, Rounds, Shape, Store, render_forward
from .drive_back import Incoming, render_backward, tile_order
from .gradients import scatter, table_gradients
from .jit import TILE
from .lattice import Lattice, RayBatch, ray_batch
from .marching import array32, make_lattice
from .plan import Plan, looking_plan, make_plan, supports, unpack
from .pool import launch

TRAINING_LANE, MOST_LANES = 128, 64
INFERENCE = Rounds(lane=512, active=128, each=4, faint=np.float32(1e-3))


class _Workspaces:
    """Stores of earlier steps, used again so that no step pays for fresh memory pages."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: list[tuple[Shape, int, Store, np.ndarray]] = []
        self.wanted: dict[Shape, int] = {}

    def take(self, shape: Shape, lanes: int) -> tuple[Store, np.ndarray]:
        with self.lock:
            capacity = self.wanted.get(shape, 256)
            for index, (kind, size, store, dx) in enumerate(self.free):
                if kind == shape and size >= capacity:
                    del self.free[index]
                    return store._replace(last=np.full(lanes, -1, np.int64), used=np.zeros(1, np.int64)), dx
        f, e = np.float32, shape.encoded
        store = Store(
            np.empty(capacity * e * TILE, f), np.empty(capacity * 3 * TILE, f), np.empty(capacity * 3 * TILE, f),
            np.empty(capacity * 5 * TILE, f), np.empty(capacity * TILE, np.int32), np.empty(capacity, np.int32),
            np.empty(capacity, np.int64), np.full(lanes, -1, np.int64), np.zeros(1, np.int64),
        )  # fmt: skip
        return store, np.empty(capacity * e * TILE, f)

    def give(self, shape: Shape, store: Store, dx: np.ndarray) -> None:
        with self.lock:
            self.free.append((shape, store.count.shape[0], store, dx))
            del self.free[:-2]

    def grow(self, shape: Shape, needed: int) -> None:
        with self.lock:
            self.wanted[shape] = max(self.wanted.get(shape, 0), needed + needed // 4 + 16)
            self.free = [entry for entry in self.free if entry[0] != shape]


_workspaces = _Workspaces()
_never = np.zeros(1, np.int64)


def _empty_store() -> Store:
    f, i = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return Store(f, f, f, f, np.zeros(0, np.int32), np.zeros(0, np.int32), i, i, np.zeros(1, np.int64))


def _forward(
    plan: Plan, lattice: Lattice, rays: RayBatch, rounds: Rounds, out: Outputs, store: Store, keep: bool, cancel: np.ndarray
) -> None:
    lanes = -(-rays.origins.shape[0] // rounds.lane)
    launch(render_forward, plan.field, plan.shape, lattice, rays, rounds, out, store, keep, np.zeros(1, np.int64), cancel, most=lanes)
    if cancel[0]:
        raise Cancelled("rendering was cancelled")


def _training_rounds(count: int) -> Rounds:
    """Lanes by the batch alone; at most MOST_LANES, each of which keeps its own weight gradients."""
    lane = max(TRAINING_LANE, -(-count // MOST_LANES))
    return Rounds(lane=lane, active=min(lane, 256), each=4, faint=np.float32(0.0))


class _Kept:
    """What the backward pass needs; gives its memory back when autograd lets go of it."""

    def __init__(self, plan: Plan, rays: RayBatch, rounds: Rounds, store: Store, dx: np.ndarray) -> None:
        self.plan, self.rays, self.rounds, self.store, self.dx = plan, rays, rounds, store, dx

    def __del__(self) -> None:
        _workspaces.give(self.plan.shape, self.store, self.dx)


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, lattice: Lattice, rays: RayBatch, cancel: np.ndarray, in_place: bool, *parameters: Tensor) -> Any:
        count = rays.origins.shape[0]
        rounds = _training_rounds(count)
        lanes = -(-count // rounds.lane)
        rgb, depth, opacity = torch.empty(count, 3), torch.empty(count), torch.empty(count)
        cost = torch.empty(count, dtype=torch.int64)
        out = Outputs(rgb.numpy(), depth.numpy(), opacity.numpy(), cost.numpy())
        while True:
            store, dx = _workspaces.take(plan.shape, lanes)
            _forward(plan, lattice, rays, rounds, out, store, True, cancel)
            used = int(store.used[0])
            if used <= store.count.shape[0]:
                break
            # Threads stop at the first full lane, so `used` is a lower bound: estimate from the share of rays done, and run again.
            _workspaces.grow(plan.shape, 2 * used)
        ctx.kept = _Kept(plan, rays, rounds, store, dx)
        ctx.in_place = in_place
        ctx.save_for_backward(*parameters)
        ctx.mark_non_differentiable(cost)
        ctx.set_materialize_grads(False)
        return rgb, depth, opacity, cost

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        kept: _Kept = ctx.kept
        parameters = ctx.saved_tensors  # raises if a parameter was changed in place since
        plan = kept.plan
        count = kept.rays.origins.shape[0]
        rgb, depth, opacity = gradients[:3]
        incoming = Incoming(
            np.zeros((count, 3), np.float32) if rgb is None else array32(rgb),
            np.zeros(count, np.float32) if depth is None else array32(depth),
            np.zeros(count, np.float32) if opacity is None else array32(opacity),
        )
        tables, returned = table_gradients(parameters[: len(plan.tables)], ctx.needs_input_grad[5:], ctx.in_place)
        weight_grads = _backward(kept, incoming, tables)
        return (None, None, None, None, None, *returned, *unpack(plan, weight_grads))


def _backward(kept: _Kept, incoming: Incoming, tables: tuple[np.ndarray, ...] | None) -> np.ndarray:
    """Gradients of the packed weights [packed]; those of the tables are added to ``tables``."""
    plan, store, lanes = kept.plan, kept.store, kept.store.last.shape[0]
    weight_grads = np.zeros((lanes, plan.packed), np.float32)
    counter = np.zeros(1, np.int64)
    launch(render_backward, plan.field, plan.shape, kept.rays, kept.rounds, store, incoming, kept.dx, weight_grads, counter, most=lanes)
    if tables is not None:
        order = np.empty(int(store.used[0]), np.int64)
        tile_order(store, order)
        scatter(plan, store.unit, kept.dx, order, store.count, tables)
    return weight_grads.sum(0)


def compile_backward(lowered: Lowered) -> None:
    """Run the backward pass of a rendering that met nothing."""
    plan = make_plan(lowered)
    zero = np.zeros(1, np.float32)
    rays = ray_batch(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32), zero, zero, zero)
    kept = _Kept(plan, rays, _training_rounds(1), *_workspaces.take(plan.shape, 1))
    _backward(kept, Incoming(np.zeros((1, 3), np.float32), zero, zero), tuple(np.zeros(t.numel(), np.float32) for t in plan.tables))


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
    cancel: CancelFlag | None = None,
) -> RenderedRays:
    """March, evaluate and composite in one compiled call; see :func:`reference.render_rays`.

    Raises:
        Cancelled: ``cancel`` was set meanwhile.
    """
    from ..dispatch import gradients_are_in_place

    if origins.dtype != torch.float32 or origins.requires_grad or directions.requires_grad or supports(lowered) is not None:
        return reference.render_rays(lowered, bits, origins, directions, near, far, jitter, edges, scale, termination)
    lattice = make_lattice(edges, bits, lowered.lower, lowered.upper, lowered.unbounded, scale, termination)
    rays = ray_batch(array32(origins), array32(directions), array32(near), array32(far), array32(jitter))
    flag = _never if cancel is None else cancel.array
    if torch.is_grad_enabled():
        plan = make_plan(lowered)
        parameters = (*plan.tables, *plan.networks)
        if any(p.requires_grad for p in parameters):
            return RenderedRays(*_Render.apply(plan, lattice, rays, flag, gradients_are_in_place(), *parameters))
    count = rays.origins.shape[0]
    rgb, depth, opacity = torch.empty(count, 3), torch.empty(count), torch.empty(count)
    cost = torch.empty(count, dtype=torch.int64)
    out = Outputs(rgb.numpy(), depth.numpy(), opacity.numpy(), cost.numpy())
    _forward(looking_plan(lowered), lattice, rays, INFERENCE, out, _empty_store(), False, flag)
    return RenderedRays(rgb, depth, opacity, cost)
