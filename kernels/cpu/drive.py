"""The fused renderer: march, evaluate, composite, for any family, one lane of rays at a time.

A *lane* is a run of consecutive rays whose bounds depend only on the batch, never on the
number of threads; threads take lanes from a counter.  Within a lane, rounds: every live
ray contributes its next few samples, the tiles are evaluated, densities composited, rays
that have become opaque leave.  Samples in front of the termination are packed into *live*
tiles, which alone see the colour network, and which training keeps for its backward pass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .fields import NOTHING, appearance_tile, color_tile, encode_tile, handover_tile
from .jit import TILE, device, kernel
from .lattice import course_of, sane, seek, stretch
from .maths import density32, exp32, opacity32, sh16
from .simd import fetch_add, load_volatile

_F0, _F1 = np.float32(0.0), np.float32(1.0)


class Shape(NamedTuple):
    """Sizes of a family's tiles, in rows (E, H) or numbers."""

    encoded: int
    hand: int
    acts: int
    rows: int
    work: int
    first_x: int  # rows of x and h known for every marched sample; appearance_tile brings the others
    first_h: int


class Rounds(NamedTuple):
    """How a lane works through its rays."""

    lane: int  # rays of a lane
    active: int  # rays marched at once
    each: int  # samples a ray contributes to a round
    faint: float  # float32: samples lighter than this lend their weight to the ray's next colour (0: none)


class Outputs(NamedTuple):
    rgb: np.ndarray  # [R, 3]
    depth: np.ndarray  # [R]
    opacity: np.ndarray  # [R]
    cost: np.ndarray  # [R] int64


class Store(NamedTuple):
    """Live tiles kept for the backward pass; capacity 0 keeps none."""

    x: np.ndarray  # [capacity * E * 64]
    unit: np.ndarray  # [capacity * 3 * 64]
    rgb: np.ndarray  # [capacity * 3 * 64]
    facts: np.ndarray  # [capacity * 5 * 64]: raw density, weight, transmittance behind, t, delta
    ray: np.ndarray  # [capacity * 64] int32
    count: np.ndarray  # type: ignore[assignment]  # [capacity] int32 samples in the tile
    before: np.ndarray  # [capacity] int64 the lane's previous tile, -1 none
    last: np.ndarray  # [lanes] int64 the lane's last tile
    used: np.ndarray  # [1] int64 tiles handed out; above the capacity: the lanes ran out and must run again


class Bench(NamedTuple):
    """One thread's working memory."""

    unit: np.ndarray  # [candidate tiles * 3 * 64]
    x: np.ndarray  # [candidate tiles * first_x * 64]
    h: np.ndarray  # [candidate tiles * first_h * 64]
    facts: np.ndarray  # [4, candidates]: t, delta, transmitted, opacity
    ray: np.ndarray  # [candidates] int64
    live_x: np.ndarray  # [E * 64]
    live_unit: np.ndarray  # [3 * 64]
    live_h: np.ndarray  # [H * 64]
    live_sh: np.ndarray  # [16 * 64]
    live_rgb: np.ndarray  # [4 * 64]
    live_facts: np.ndarray  # [5 * 64] as Store.facts
    live_share: np.ndarray  # [64] weight of the colour
    live_ray: np.ndarray  # [64] int32
    acts: np.ndarray
    rows: np.ndarray
    work: np.ndarray
    sh: np.ndarray  # [lane, 16]
    through: np.ndarray  # [lane] transmittance
    lent: np.ndarray  # [lane] weight of samples too faint for a colour of their own
    step: np.ndarray  # [lane] int64 next interval
    end: np.ndarray  # [lane] int64 the interval from which on there are no samples
    live: np.ndarray  # [lane] int64 rays being marched


@device
def make_bench(shape, rounds):  # type: ignore[no-untyped-def]
    f, i64 = np.float32, np.int64
    candidates = rounds.active * rounds.each + TILE
    tiles = (candidates + TILE - 1) // TILE
    e, h = shape.encoded, shape.hand
    return Bench(
        np.zeros(tiles * 3 * TILE, f), np.zeros(tiles * shape.first_x * TILE, f), np.zeros(tiles * shape.first_h * TILE, f),
        np.zeros((4, candidates + TILE), f), np.zeros(candidates + TILE, i64),
        np.zeros(e * TILE, f), np.zeros(3 * TILE, f), np.zeros(h * TILE, f), np.zeros(16 * TILE, f), np.zeros(4 * TILE, f),
        np.zeros(5 * TILE, f), np.zeros(TILE, f), np.zeros(TILE, np.int32),
        np.zeros(shape.acts, f), np.zeros(shape.rows, np.int32), np.zeros(shape.work, f),
        np.zeros((rounds.lane, 16), f), np.zeros(rounds.lane, f), np.zeros(rounds.lane, f),
        np.zeros(rounds.lane, i64), np.zeros(rounds.lane, i64), np.zeros(rounds.lane, i64),
    )  # fmt: skip


@device
def flush(field, shape, bench, filled, out, store, lane, keep):  # type: ignore[no-untyped-def]
    """Colours of the live tile, added to their rays; with ``keep`` the tile moves to the store. False: the store is full."""
    appearance_tile(field, bench.live_unit, 0, bench.live_x, 0, bench.live_h, 0, bench.rows, bench.work)
    color_tile(field, bench.live_h, 0, bench.live_sh, 0, bench.live_rgb, 0, bench.acts, 0)
    for s in range(filled):
        ray, share = bench.live_ray[s], bench.live_share[s]
        out.rgb[ray, 0] += share * bench.live_rgb[s]
        out.rgb[ray, 1] += share * bench.live_rgb[TILE + s]
        out.rgb[ray, 2] += share * bench.live_rgb[2 * TILE + s]
    if not keep:
        return True
    tile = fetch_add(store.used, 0, 1)
    if tile >= store.count.shape[0]:
        return False
    e = shape.encoded * TILE
    store.x[tile * e : (tile + 1) * e] = bench.live_x
    store.unit[tile * 3 * TILE : (tile + 1) * 3 * TILE] = bench.live_unit
    store.rgb[tile * 3 * TILE : (tile + 1) * 3 * TILE] = bench.live_rgb[: 3 * TILE]
    store.facts[tile * 5 * TILE : (tile + 1) * 5 * TILE] = bench.live_facts
    store.ray[tile * TILE : (tile + 1) * TILE] = bench.live_ray
    store.count[tile] = filled
    store.before[tile] = store.last[lane]
    store.last[lane] = tile
    return True


@device
def admit(lattice, rays, rounds, first, size, going, upcoming, bench):  # type: ignore[no-untyped-def]
    """Fill the live rays up with those of the lane that have a sample; the number of live rays, and the first ray not looked at."""
    while going < rounds.active and upcoming < size:
        r = first + upcoming
        if sane(rays.plain, r):
            ray = course_of(lattice.plain, rays.plain, r)
            k, end = stretch(lattice.plain, ray)
            k = seek(lattice.plain, ray, k, end)[0]
            if k < lattice.plain.count:
                bench.step[upcoming], bench.end[upcoming] = k, end
                sh16(ray.dx, ray.dy, ray.dz, bench.sh[upcoming], 0, 1)
                bench.live[going] = upcoming
                going += 1
        upcoming += 1
    return going, upcoming


@device
def gather_round(lattice, rays, rounds, first, going, bench):  # type: ignore[no-untyped-def]
    """Every live ray's next samples into the bench; rays without any more get step = K. Returns the number of samples."""
    count = lattice.plain.count
    each = rounds.each
    if going * each < TILE:  # few rays left: the tile has room for more of each
        each = TILE // max(going, 1)
    found = 0
    for a in range(going):
        local = bench.live[a]
        k, end = bench.step[local], bench.end[local]
        ray = course_of(lattice.plain, rays.plain, first + local)
        for _ in range(each):
            k, t, width, x, y, z = seek(lattice.plain, ray, k, end)
            if k >= count:
                break
            at = (found // TILE) * 3 * TILE + found % TILE
            bench.unit[at], bench.unit[at + TILE], bench.unit[at + 2 * TILE] = x, y, z
            bench.facts[0, found], bench.facts[1, found] = t, width * lattice.scale
            bench.ray[found] = local
            found += 1
            k += 1
        bench.step[local] = k
    return found


@device
def evaluate_round(field, shape, bench, found):  # type: ignore[no-untyped-def]
    """Hand-over, transmitted fraction and opacity of every candidate."""
    for tile in range((found + TILE - 1) // TILE):
        xoff, hoff = tile * shape.first_x * TILE, tile * shape.first_h * TILE
        encode_tile(field, bench.unit, tile * 3 * TILE, bench.x, xoff, bench.rows, bench.work)
        handover_tile(field, bench.x, xoff, bench.h, hoff, bench.acts, 0, False)
        base = tile * TILE
        for s in range(TILE):
            optical = density32(bench.h[hoff + s]) * bench.facts[1, base + s]
            kept = exp32(-optical)
            bench.facts[2, base + s] = kept
            bench.facts[3, base + s] = opacity32(optical, kept)


@device
def render_lane(field, shape, lattice, rays, rounds, first, last, out, store, lane, keep, bench, cancel):  # type: ignore[no-untyped-def]
    """Rays first..last. False: the store is full or the caller cancelled."""
    e, h = shape.first_x, shape.first_h
    size = last - first
    for local in range(size):
        r = first + local
        out.rgb[r, 0], out.rgb[r, 1], out.rgb[r, 2] = _F0, _F0, _F0
        out.depth[r], out.opacity[r], out.cost[r] = _F0, _F0, 0
        bench.through[local], bench.lent[local] = _F1, _F0
    going, upcoming, filled = 0, 0, 0
    while True:
        going, upcoming = admit(lattice, rays, rounds, first, size, going, upcoming, bench)
        if going == 0 or load_volatile(cancel, 0) != 0:
            break
        found = gather_round(lattice, rays, rounds, first, going, bench)
        evaluate_round(field, shape, bench, found)
        for i in range(found):
            local = bench.ray[i]
            through = bench.through[local]
            if through < lattice.termination:
                continue
            r = first + local
            t = bench.facts[0, i]
            behind = through * bench.facts[2, i]
            weight = through * bench.facts[3, i]
            bench.through[local] = behind
            out.depth[r] += weight * t
            out.opacity[r] += weight
            out.cost[r] += 1
            tile, s = i // TILE, i % TILE
            source = tile * h * TILE + s
            if bench.h[source] < NOTHING:
                continue
            share = weight + bench.lent[local]
            if share < rounds.faint:
                bench.lent[local] = share
                continue
            bench.lent[local] = _F0
            for row in range(h):
                bench.live_h[row * TILE + filled] = bench.h[source + row * TILE]
            for row in range(16):
                bench.live_sh[row * TILE + filled] = bench.sh[local, row]
            source = tile * 3 * TILE + s
            for row in range(3):
                bench.live_unit[row * TILE + filled] = bench.unit[source + row * TILE]
            if keep:
                source = tile * e * TILE + s
                for row in range(e):
                    bench.live_x[row * TILE + filled] = bench.x[source + row * TILE]
                bench.live_facts[filled] = bench.h[tile * h * TILE + s]
                bench.live_facts[TILE + filled] = weight
                bench.live_facts[2 * TILE + filled] = behind
                bench.live_facts[3 * TILE + filled] = t
                bench.live_facts[4 * TILE + filled] = bench.facts[1, i]
            bench.live_share[filled] = share
            bench.live_ray[filled] = r
            filled += 1
            if filled == TILE:
                if not flush(field, shape, bench, filled, out, store, lane, keep):
                    return False
                filled = 0
        staying = 0
        for a in range(going):
            local = bench.live[a]
            if bench.step[local] < bench.end[local] and not bench.through[local] < lattice.termination:
                bench.live[staying] = local
                staying += 1
        going = staying
    if filled > 0:
        return flush(field, shape, bench, filled, out, store, lane, keep)
    return True


@kernel
def render_forward(field, shape, lattice, rays, rounds, out, store, keep, counter, cancel):  # type: ignore[no-untyped-def]
    """One thread's share of the lanes; ``counter`` [1] int64 is common to all threads, ``cancel`` [1] int64 stops them when not 0."""
    count = rays.origins.shape[0]
    bench = make_bench(shape, rounds)
    lanes = (count + rounds.lane - 1) // rounds.lane
    while load_volatile(cancel, 0) == 0:
        lane = fetch_add(counter, 0, 1)
        if lane >= lanes:
            break
        first = lane * rounds.lane
        if keep:
            store.last[lane] = -1
        if not render_lane(
            field, shape, lattice, rays, rounds, first, min(first + rounds.lane, count), out, store, lane, keep, bench, cancel
        ):
            break
