"""The fused renderer's backward pass, over the live tiles its forward pass kept.

First every lane on its own: compositing backwards (its tiles from the last to the first,
so that the sum over the samples behind is a running sum), then the networks, whose
activations are computed again from the kept encodings; weight gradients add up per lane.
Then the tables: threads own disjoint parts and go through all tiles in one fixed order.
Both orders depend on the batch alone, so the result is the same for any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .drive import make_bench
from .fields import color_backward, color_tile, handover_backward, handover_tile, scatter_tile
from .jit import TILE, device, kernel
from .maths import density_slope, sh16
from .simd import fetch_add

_F0, _F1 = np.float32(0.0), np.float32(1.0)


class Incoming(NamedTuple):
    """Gradients of the outputs."""

    rgb: np.ndarray  # [R, 3]
    depth: np.ndarray  # [R]
    opacity: np.ndarray  # [R]


@device
def composite_tile_backward(store, tile, first, incoming, behind, drgb, ds):  # type: ignore[no-untyped-def]
    """Gradients before the sigmoid drgb [3, 64] and of the raw density ds [64]; ``behind`` [lane] sums weight * gain of samples behind."""
    base, count = tile * TILE, store.count[tile]
    facts, colors = tile * 5 * TILE, tile * 3 * TILE
    for i in range(3 * TILE):
        drgb[i] = _F0
    for back in range(count):
        s = count - 1 - back
        ray = store.ray[base + s]
        local = ray - first
        weight, after = store.facts[facts + TILE + s], store.facts[facts + 2 * TILE + s]
        gain = incoming.depth[ray] * store.facts[facts + 3 * TILE + s] + incoming.opacity[ray]
        for channel in range(3):
            color, g = store.rgb[colors + channel * TILE + s], incoming.rgb[ray, channel]
            gain += g * color
            drgb[channel * TILE + s] = weight * g * color * (_F1 - color)
        ds[s] = (after * gain - behind[local]) * store.facts[facts + 4 * TILE + s]
        behind[local] += weight * gain
    for s in range(TILE):
        ds[s] = ds[s] * density_slope(store.facts[facts + s]) if s < count else _F0


@kernel
def render_backward(field, shape, rays, rounds, store, incoming, dx, weight_grads, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the lanes: dx [capacity * E * 64] of every live tile, weight_grads [lanes, W] (zeroed by the caller)."""
    lanes = store.last.shape[0]
    bench = make_bench(shape, rounds)
    h = shape.hand
    hand, dh = bench.live_h, np.zeros((h + 2) * TILE, np.float32)
    drgb, ds = np.zeros(4 * TILE, np.float32), np.zeros(TILE, np.float32)
    color_acts, work = np.zeros(shape.acts, np.float32), np.zeros(shape.work, np.float32)
    while True:
        lane = fetch_add(counter, 0, 1)
        if lane >= lanes:
            break
        first = lane * rounds.lane
        bench.through[:] = _F0
        for local in range(min(rounds.lane, rays.directions.shape[0] - first)):
            r = first + local
            sh16(rays.directions[r, 0], rays.directions[r, 1], rays.directions[r, 2], bench.sh[local], 0, 1)
        grads = weight_grads[lane]
        tile = store.last[lane]
        while tile >= 0:
            composite_tile_backward(store, tile, first, incoming, bench.through, drgb, ds)
            for s in range(store.count[tile]):
                local = store.ray[tile * TILE + s] - first
                for row in range(16):
                    bench.live_sh[row * TILE + s] = bench.sh[local, row]
            xoff = tile * shape.encoded * TILE
            # Both networks' activations of the tile, then the gradients back through the colours into the hand-over.
            handover_tile(field, store.x, xoff, hand, 0, bench.acts, 0, True)
            color_tile(field, hand, 0, bench.live_sh, 0, bench.live_rgb, 0, color_acts, 0)
            color_backward(field, hand, 0, bench.live_sh, 0, drgb, 0, dh, 0, color_acts, 0, grads, work, 0)
            for s in range(TILE):
                dh[s] = ds[s]
            handover_backward(field, store.x, xoff, dh, 0, dx, xoff, bench.acts, 0, grads, work, 0)
            tile = store.before[tile]


@kernel
def tile_order(store, order):  # type: ignore[no-untyped-def]
    """The kept tiles in an order that depends on the batch alone: lane by lane, each from its last tile."""
    at = 0
    for lane in range(store.last.shape[0]):
        tile = store.last[lane]
        while tile >= 0:
            order[at] = tile
            at += 1
            tile = store.before[tile]


@kernel
def scatter_all(field, shape, unit, dx, order, counts, grads, parts, counter):  # type: ignore[no-untyped-def]
    """One thread's share of the parts of the parameter gradients ``grads`` (a tuple of flat arrays, added to).

    unit [tiles * 3 * 64], dx [tiles * E * 64]; tile order[i] holds counts[order[i]] samples.
    """
    rows, work = np.zeros(shape.rows, np.int32), np.zeros(shape.work, np.float32)
    while True:
        part = fetch_add(counter, 0, 1)
        if part >= parts:
            break
        for i in range(order.shape[0]):
            tile = order[i]
            scatter_tile(field, grads, part, parts, unit, tile * 3 * TILE, dx, tile * shape.encoded * TILE, counts[tile], rows, work)
