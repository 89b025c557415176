"""Fused evaluation of single positions, for any family, and its backward pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .drive import Shape
from .fields import appearance_tile, color_backward, color_tile, encode_tile, gate_tile, handover_backward, handover_tile
from .jit import TILE, device, kernel
from .lattice import contracted
from .maths import sh16
from .simd import fetch_add

__all__ = ["Answer", "Demand", "Shape", "evaluate_points", "networks_alone", "points_backward"]

_F0, _F1 = np.float32(0.0), np.float32(1.0)


class Answer(NamedTuple):
    """Outputs; arrays of length 0 are not wanted."""

    log_density: np.ndarray  # [N]
    gate: np.ndarray  # [N]
    features: np.ndarray  # [N, H - 1]
    rgb: np.ndarray  # [N, 3]
    x: np.ndarray  # [tiles * E * 64] encodings, kept for the backward pass
    unit: np.ndarray  # [tiles * 3 * 64]


class Demand(NamedTuple):
    """Gradients of the outputs; arrays of length 0 are zero."""

    log_density: np.ndarray  # [N]
    features: np.ndarray  # [N, H - 1]
    rgb: np.ndarray  # [N, 3]


@device
def load_unit(positions, box, unbounded, first, count, unit, uoff, inside):  # type: ignore[no-untyped-def]
    """Unit coordinates of a tile of world positions, moved into [0, 1]; inside [64] tells which were there already."""
    for s in range(TILE):
        at = min(first + s, count - 1)
        x = (positions[at, 0] - box[0]) / box[3]
        y = (positions[at, 1] - box[1]) / box[4]
        z = (positions[at, 2] - box[2]) / box[5]
        if unbounded:
            x, y, z = contracted(x, y, z)
        within = x >= _F0 and x <= _F1 and y >= _F0 and y <= _F1 and z >= _F0 and z <= _F1
        inside[s] = _F1 if within else _F0
        unit[uoff + s] = min(x, _F1) if x > _F0 else _F0
        unit[uoff + TILE + s] = min(y, _F1) if y > _F0 else _F0
        unit[uoff + 2 * TILE + s] = min(z, _F1) if z > _F0 else _F0


@device
def load_sh(directions, first, count, sh):  # type: ignore[no-untyped-def]
    for s in range(TILE):
        at = min(first + s, count - 1)
        sh16(directions[at, 0], directions[at, 1], directions[at, 2], sh, s, TILE)


@kernel
def evaluate_points(field, shape, positions, directions, box, unbounded, answer, each, counter):  # type: ignore[no-untyped-def]
    """One thread's share: positions, directions [N, 3]; threads take ``each`` tiles at once."""
    count = positions.shape[0]
    keep, colored = answer.x.shape[0] > 0, answer.rgb.shape[0] > 0
    f = np.float32
    unit, x, h = np.zeros(3 * TILE, f), np.zeros(shape.encoded * TILE, f), np.zeros(shape.hand * TILE, f)
    sh, rgb, acts, inside = np.zeros(16 * TILE, f), np.zeros(4 * TILE, f), np.zeros(shape.acts, f), np.zeros(TILE, f)
    rows, work = np.zeros(shape.rows, np.int32), np.zeros(shape.work, f)
    while True:
        first_tile = fetch_add(counter, 0, each)
        if first_tile * TILE >= count:
            break
        for tile in range(first_tile, first_tile + each):
            first = tile * TILE
            if first >= count:
                break
            here = min(TILE, count - first)
            load_unit(positions, box, unbounded, first, count, unit, 0, inside)
            encode_tile(field, unit, 0, x, 0, rows, work)
            handover_tile(field, x, 0, h, 0, acts, 0, False)
            gate_tile(field, h, 0, inside)
            if colored or keep or answer.features.shape[0] > 0:
                appearance_tile(field, unit, 0, x, 0, h, 0, rows, work)
            for s in range(here):
                answer.log_density[first + s] = h[s]
                answer.gate[first + s] = inside[s]
            if answer.features.shape[0] > 0:
                for s in range(here):
                    for row in range(shape.hand - 1):
                        answer.features[first + s, row] = h[(row + 1) * TILE + s]
            if colored:
                load_sh(directions, first, count, sh)
                color_tile(field, h, 0, sh, 0, rgb, 0, acts, 0)
                for s in range(here):
                    for channel in range(3):
                        answer.rgb[first + s, channel] = rgb[channel * TILE + s]
            if keep:
                e = shape.encoded * TILE
                answer.x[tile * e : (tile + 1) * e] = x
                answer.unit[tile * 3 * TILE : (tile + 1) * 3 * TILE] = unit


@kernel
def networks_alone(field, shape, tiles, counter):  # type: ignore[no-untyped-def]
    """One thread's share of evaluating a family's networks on ``tiles`` tiles whose encoding is at hand: what a benchmark asks."""
    f = np.float32
    x, h, sh = np.full(shape.encoded * TILE, f(0.5)), np.zeros(shape.hand * TILE, f), np.full(16 * TILE, f(0.5))
    rgb, acts = np.zeros(4 * TILE, f), np.zeros(shape.acts, f)
    while fetch_add(counter, 0, 1) < tiles:
        handover_tile(field, x, 0, h, 0, acts, 0, False)
        color_tile(field, h, 0, sh, 0, rgb, 0, acts, 0)


@kernel
def points_backward(field, shape, directions, answer, demand, dx, weight_grads, each, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the lanes of ``each`` tiles: dx [tiles * E * 64], weight_grads [lanes, W] (zeroed by the caller)."""
    count = answer.log_density.shape[0]
    colored = demand.rgb.shape[0] > 0
    f = np.float32
    h, dh = np.zeros(shape.hand * TILE, f), np.zeros((shape.hand + 2) * TILE, f)
    sh, rgb, drgb = np.zeros(16 * TILE, f), np.zeros(4 * TILE, f), np.zeros(4 * TILE, f)
    acts, color_acts, work = np.zeros(shape.acts, f), np.zeros(shape.acts, f), np.zeros(shape.work, f)
    while True:
        lane = fetch_add(counter, 0, 1)
        if lane >= weight_grads.shape[0]:
            break
        grads = weight_grads[lane]
        for tile in range(lane * each, (lane + 1) * each):
            first = tile * TILE
            if first >= count:
                break
            here = min(TILE, count - first)
            xoff = tile * shape.encoded * TILE
            handover_tile(field, answer.x, xoff, h, 0, acts, 0, True)
            dh[:] = _F0
            if colored:
                load_sh(directions, first, count, sh)
                color_tile(field, h, 0, sh, 0, rgb, 0, color_acts, 0)
                for channel in range(3):
                    for s in range(TILE):
                        c = rgb[channel * TILE + s]
                        drgb[channel * TILE + s] = demand.rgb[first + s, channel] * c * (_F1 - c) if s < here else _F0
                color_backward(field, h, 0, sh, 0, drgb, 0, dh, 0, color_acts, 0, grads, work, 0)
            if demand.features.shape[0] > 0:
                for s in range(here):
                    for row in range(shape.hand - 1):
                        dh[(row + 1) * TILE + s] += demand.features[first + s, row]
            for s in range(TILE):
                dh[s] = demand.log_density[first + s] if s < here and demand.log_density.shape[0] > 0 else _F0
            handover_backward(field, answer.x, xoff, dh, 0, dx, xoff, acts, 0, grads, work, 0)
