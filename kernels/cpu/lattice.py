"""The samples along a ray (docs/architecture.md), found without visiting empty space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import device, exact, exact_inlined, inlined, kernel, kernel_exact
from .simd import byte_at, fetch_add, float_at

_F0, _F1, _F2 = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_F4 = np.float32(4.0)
_FAR = np.float32(1e30)
_LIPSCHITZ = np.float32(4.0 / 3.0)
_SLOW = np.float32(1e-12)  # cells per length; below, a ray runs across the axis
_HAIR = np.float32(1e-2)  # cells

SKIP_LIMIT = 254
"""Greatest distance to an occupied cell that the skip grid tells apart."""


class LatticeView(NamedTuple):
    """A lattice in plain numbers: the search for samples would spend most of its time on reference counts of arrays."""

    edges: int  # address
    skip: int  # address
    count: int  # type: ignore[assignment]  # K
    cells: tuple[int, int, int]  # of the skip grid
    lower: tuple[float, float, float]  # float32
    size: tuple[float, float, float]  # float32
    unbounded: bool
    rate: float  # float32, 1 / step of a uniform lattice, 0 otherwise
    first: tuple[float, float, float]  # float32, the smallest block of cells that holds all occupied ones: where it begins, in cells
    last: tuple[float, float, float]  # float32, where it ends; at or before ``first`` where nothing is occupied


class Lattice(NamedTuple):
    edges: np.ndarray  # [K + 1] float32
    skip: np.ndarray  # [X, Y, Z] uint8: 0 occupied, else cells (maximum norm) to the nearest occupied one
    plain: LatticeView
    scale: float  # float32, normalised length per world length
    termination: float  # float32


class RayView(NamedTuple):
    """Addresses of a batch's arrays."""

    origins: int
    directions: int
    near: int
    far: int
    jitter: int


class RayBatch(NamedTuple):
    origins: np.ndarray  # [R, 3] float32
    directions: np.ndarray  # [R, 3]
    near: np.ndarray  # [R]
    far: np.ndarray  # [R]
    jitter: np.ndarray  # [R]
    plain: RayView


def ray_batch(*arrays: np.ndarray) -> RayBatch:
    """Contiguous float32 arrays in the order of :class:`RayBatch`."""
    origins, directions, near, far, jitter = arrays
    return RayBatch(origins, directions, near, far, jitter, RayView(*(array.ctypes.data for array in arrays)))


@device
def _sweep(row, near, own):  # type: ignore[no-untyped-def]
    """row[z] = min(row[z], 1 + the least of near[z - 1..z + 1]); ``own`` is scratch."""
    n = row.shape[0]
    for z in range(n):
        own[z] = near[z]
    for z in range(n - 1):
        own[z] = min(own[z], near[z + 1])
    for z in range(n - 1):
        own[z + 1] = min(own[z + 1], near[z])
    for z in range(n):
        row[z] = min(row[z], np.uint8(own[z] + np.uint8(1)))


@kernel
def skip_grid(bits, out, block):  # type: ignore[no-untyped-def]
    """out [X, Y, Z] uint8: distance in the maximum norm to the nearest set cell, at most SKIP_LIMIT; block [6]: what holds all set cells.

    Two sweeps, each of which looks at the half of a cell's 26 neighbours that it has passed (Rosenfeld and Pfaltz's chessboard distance).
    """
    nx, ny, nz = bits.shape
    limit = np.uint8(SKIP_LIMIT)
    near, own = np.empty(nz, np.uint8), np.empty(nz, np.uint8)
    block[0], block[1], block[2], block[3], block[4], block[5] = nx, ny, nz, 0, 0, 0
    for x in range(nx):
        for y in range(ny):
            low, high = nz, -1
            for z in range(nz):
                out[x, y, z] = np.uint8(0) if bits[x, y, z] else limit
            for z in range(nz):
                if bits[x, y, z]:
                    low, high = min(low, z), z
            if high >= 0:
                block[0], block[3] = min(block[0], x), x + 1
                block[1], block[4] = min(block[1], y), max(block[4], y + 1)
                block[2], block[5] = min(block[2], low), max(block[5], high + 1)
    for turn in range(2):
        step = 1 if turn == 0 else -1
        for i in range(nx):
            x = i if turn == 0 else nx - 1 - i
            for j in range(ny):
                y = j if turn == 0 else ny - 1 - j
                row = out[x, y]
                near[:] = limit
                if i > 0:
                    for neighbour in range(max(y - 1, 0), min(y + 2, ny)):
                        other = out[x - step, neighbour]
                        for z in range(nz):
                            near[z] = min(near[z], other[z])
                if j > 0:
                    other = out[x, y - step]
                    for z in range(nz):
                        near[z] = min(near[z], other[z])
                _sweep(row, near, own)
                if turn == 0:
                    for z in range(1, nz):
                        row[z] = min(row[z], np.uint8(row[z - 1] + np.uint8(1)))
                else:
                    for z in range(nz - 2, -1, -1):
                        row[z] = min(row[z], np.uint8(row[z + 1] + np.uint8(1)))


@exact
def sane(rays, r):  # type: ignore[no-untyped-def]
    """Whether ray r can have samples: finite, with a direction, near < far."""
    near, jitter = float_at(rays.near, r), float_at(rays.jitter, r)
    total = near + jitter
    some = False
    for axis in range(3):
        o, d = float_at(rays.origins, 3 * r + axis), float_at(rays.directions, 3 * r + axis)
        total += o + d
        some = some or d != _F0
        if not (abs(o) < _FAR and abs(d) < _FAR):
            return False
    return some and total == total and abs(near) < _FAR and abs(jitter) < _FAR and near < float_at(rays.far, r)


@exact_inlined
def contracted(x, y, z):  # type: ignore[no-untyped-def]
    """mip-NeRF 360's contraction in the maximum norm, of uncontracted unit coordinates."""
    x, y, z = _F2 * x - _F1, _F2 * y - _F1, _F2 * z - _F1
    n = max(abs(x), max(abs(y), max(abs(z), _F1)))
    f = (_F2 - _F1 / n) / n
    return (f * x + _F2) / _F4, (f * y + _F2) / _F4, (f * z + _F2) / _F4


class Course(NamedTuple):
    """One ray in registers."""

    ox: float
    oy: float
    oz: float
    dx: float
    dy: float
    dz: float
    near: float
    far: float
    jitter: float
    vx: float  # cells per length
    vy: float
    vz: float
    ix: float  # and its inverse, huge where the ray runs across the axis
    iy: float
    iz: float


@inlined
def _inverse(v):  # type: ignore[no-untyped-def]
    return _F1 / v if abs(v) > _SLOW else _FAR


@exact_inlined
def course_of(lattice, rays, r):  # type: ignore[no-untyped-def]
    """What :func:`seek` asks of ray r."""
    dx, dy, dz = float_at(rays.directions, 3 * r), float_at(rays.directions, 3 * r + 1), float_at(rays.directions, 3 * r + 2)
    nx, ny, nz = lattice.cells
    sx, sy, sz = lattice.size
    vx, vy, vz = dx * (np.float32(nx) / sx), dy * (np.float32(ny) / sy), dz * (np.float32(nz) / sz)
    return Course(
        float_at(rays.origins, 3 * r), float_at(rays.origins, 3 * r + 1), float_at(rays.origins, 3 * r + 2), dx, dy, dz,
        float_at(rays.near, r), float_at(rays.far, r), float_at(rays.jitter, r),
        vx, vy, vz, _inverse(vx), _inverse(vy), _inverse(vz),
    )  # fmt: skip


@inlined
def _cross(c, v, inverse, low, high, enter, leave):  # type: ignore[no-untyped-def]
    """(enter, leave) narrowed to the times at which c + v t lies between low and high."""
    if abs(v) <= _SLOW:
        return (enter, leave) if c >= low and c <= high else (_FAR, -_FAR)
    a, b = (low - c) * inverse, (high - c) * inverse
    return max(enter, min(a, b)), min(leave, max(a, b))


@inlined
def stretch(lattice, ray):  # type: ignore[no-untyped-def]
    """(k, end): intervals before k or from ``end`` on hold no sample of the ray. Generous by some intervals."""
    count = lattice.count
    if lattice.last[0] <= lattice.first[0]:
        return np.int64(0), np.int64(0)
    if lattice.unbounded or not lattice.rate > _F0:
        return np.int64(0), np.int64(count)
    ax, ay, az = lattice.lower
    sx, sy, sz = lattice.size
    nx, ny, nz = lattice.cells
    first, last = lattice.first, lattice.last
    enter, leave = _cross((ray.ox - ax) / sx * np.float32(nx), ray.vx, ray.ix, first[0] - _HAIR, last[0] + _HAIR, -_FAR, _FAR)
    enter, leave = _cross((ray.oy - ay) / sy * np.float32(ny), ray.vy, ray.iy, first[1] - _HAIR, last[1] + _HAIR, enter, leave)
    enter, leave = _cross((ray.oz - az) / sz * np.float32(nz), ray.vz, ray.iz, first[2] - _HAIR, last[2] + _HAIR, enter, leave)
    if enter > leave:
        return np.int64(0), np.int64(0)
    top = np.float32(count)
    begin = min(max((enter - ray.near) * lattice.rate - ray.jitter, _F0), top)
    end = min(max((leave - ray.near) * lattice.rate - ray.jitter, -_F4), top)
    return max(np.int64(begin) - 2, np.int64(0)), min(np.int64(end) + 3, np.int64(count))


@inlined
def _leap(lattice, ray, t, x, y, z, cx, cy, cz, free, k):  # type: ignore[no-untyped-def]
    """The first interval after k that may lie outside the empty cube of cells around (cx, cy, cz); x, y, z in cells."""
    count = lattice.count
    less, more = np.float32(1 - free), np.float32(free)
    lx, ly, lz = np.float32(cx) + less, np.float32(cy) + less, np.float32(cz) + less
    hx, hy, hz = np.float32(cx) + more, np.float32(cy) + more, np.float32(cz) + more
    if lattice.unbounded:
        # No straight line in unit coordinates: leave by the least distance to the cube's faces at the greatest speed.
        margin = min(min(min(x - lx, hx - x), min(y - ly, hy - y)), min(z - lz, hz - z))
        sizes = lattice.cells
        least = np.float32(min(sizes[0], min(sizes[1], sizes[2])))
        most = np.float32(max(sizes[0], max(sizes[1], sizes[2])))
        speed = max(abs(ray.vx), max(abs(ray.vy), abs(ray.vz))) * (most / least) * np.float32(0.5) * _LIPSCHITZ
        time = max(margin, _F0) / max(speed, np.float32(1e-30))
    else:
        # The face ahead along each axis; an axis the ray runs across has a huge inverse and is never left first.
        ax = ((hx if ray.vx > _F0 else lx) - x) * ray.ix
        ay = ((hy if ray.vy > _F0 else ly) - y) * ray.iy
        az = ((hz if ray.vz > _F0 else lz) - z) * ray.iz
        time = min(ax if abs(ray.vx) > _SLOW else _FAR, min(ay if abs(ray.vy) > _SLOW else _FAR, az if abs(ray.vz) > _SLOW else _FAR))
    along = t + time - ray.near
    if lattice.rate > _F0:
        position = min(along * lattice.rate - ray.jitter, np.float32(count))
        return max(k + 1, np.int64(position))
    low, high = k, count
    while low < high:  # the last edge not behind `along`
        middle = (low + high + 1) >> 1
        if float_at(lattice.edges, middle) <= along:
            low = middle
        else:
            high = middle - 1
    return max(k + 1, low - 1)


@exact_inlined
def seek(lattice, ray, k, end):  # type: ignore[no-untyped-def]
    """The next sample of a ray in intervals k..end - 1: (interval, t, width, unit x, y, z); interval = K where there is none."""
    nx, ny, nz = lattice.cells
    ax, ay, az = lattice.lower
    sx, sy, sz = lattice.size
    fx, fy, fz = np.float32(nx), np.float32(ny), np.float32(nz)
    while k < end:
        start = float_at(lattice.edges, k)
        width = float_at(lattice.edges, k + 1) - start
        t = ray.near + (start + ray.jitter * width)
        if not t < ray.far:
            break
        x = (ray.ox + t * ray.dx - ax) / sx
        y = (ray.oy + t * ray.dy - ay) / sy
        z = (ray.oz + t * ray.dz - az) / sz
        if lattice.unbounded:
            x, y, z = contracted(x, y, z)
        if x >= _F0 and x <= _F1 and y >= _F0 and y <= _F1 and z >= _F0 and z <= _F1:
            cx = min(np.int64(x * fx), nx - 1)
            cy = min(np.int64(y * fy), ny - 1)
            cz = min(np.int64(z * fz), nz - 1)
            free = np.int64(byte_at(lattice.skip, (cx * ny + cy) * nz + cz))
            if free == 0:
                return k, t, width, x, y, z
            k = _leap(lattice, ray, t, x * fx, y * fy, z * fz, cx, cy, cz, free, k)
        else:
            k += 1
    return lattice.count, _F0, _F0, _F0, _F0, _F0


_CHUNK = 256
"""Rays a thread marches at once."""


@kernel
def march_count(lattice, rays, counts, counter):  # type: ignore[no-untyped-def]
    """One thread's share: counts[r] = number of samples of ray r (left alone where the ray is not sane)."""
    while True:
        first = fetch_add(counter, 0, 1) * _CHUNK
        if first >= counts.shape[0]:
            break
        for r in range(first, min(first + _CHUNK, counts.shape[0])):
            n = 0
            if sane(rays.plain, r):
                ray = course_of(lattice.plain, rays.plain, r)
                k, end = stretch(lattice.plain, ray)
                while True:
                    k = seek(lattice.plain, ray, k, end)[0] + 1
                    if k > lattice.plain.count:
                        break
                    n += 1
            counts[r] = n


@kernel
def march_fill(lattice, rays, offsets, out_rays, out_t, out_delta, counter):  # type: ignore[no-untyped-def]
    """One thread's share: the samples counted by :func:`march_count`, from offsets[r] on; delta in world units."""
    count = offsets.shape[0] - 1
    while True:
        first = fetch_add(counter, 0, 1) * _CHUNK
        if first >= count:
            break
        for r in range(first, min(first + _CHUNK, count)):
            if offsets[r] == offsets[r + 1]:
                continue
            ray = course_of(lattice.plain, rays.plain, r)
            k, end = stretch(lattice.plain, ray)
            for at in range(offsets[r], offsets[r + 1]):
                sample = seek(lattice.plain, ray, k, end)
                out_rays[at], out_t[at], out_delta[at] = r, sample[1], sample[2]
                k = sample[0] + 1


@kernel_exact
def box_kernel(origins, directions, box, near, far):  # type: ignore[no-untyped-def]
    """near, far [N] of rays against a box [6] (lower, upper corner); near >= far where they miss."""
    for r in range(origins.shape[0]):
        enter, leave = _F0, np.float32(np.inf)
        enters_first = True
        for axis in range(3):
            o, d, low, high = origins[r, axis], directions[r, axis], box[axis], box[axis + 3]
            if d == _F0:
                between = o >= low and o <= high
                a = -np.float32(np.inf) if between else np.float32(np.inf)
                b = -a
            else:
                inverse = _F1 / d
                a, b = (low - o) * inverse, (high - o) * inverse
                if b < a:
                    a, b = b, a
            # NaN must come out, as it does of PyTorch's amax.
            enter = a if (a > enter or a != a) and enter == enter else enter
            leave = b if enters_first or ((b < leave or b != b) and leave == leave) else leave
            enters_first = False
        near[r], far[r] = enter, leave
