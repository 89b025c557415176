"""The samples along a ray (docs/architecture.md), found without visiting empty space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import exact, exact_inlined, inlined, kernel, kernel_exact
from .simd import byte_at, fetch_add, float_at

_F0, _F1, _F2 = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_F4 = np.float32(4.0)
_FAR = np.float32(1e30)
_LIPSCHITZ = np.float32(4.0 / 3.0)

SKIP_LIMIT = 12
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


@kernel
def skip_grid(bits, out, one, two):  # type: ignore[no-untyped-def]
    """out [X, Y, Z] uint8: distance in the maximum norm to the nearest set cell, at most SKIP_LIMIT; one, two are scratch."""
    nx, ny, nz = bits.shape
    for x in range(nx):
        for y in range(ny):
            for z in range(nz):
                b = np.uint8(1) if bits[x, y, z] else np.uint8(0)
                one[x, y, z] = b
                out[x, y, z] = np.uint8(1) - b
    for _ in range(SKIP_LIMIT - 1):
        for x in range(nx):
            for y in range(ny):
                a, b = one[x, y], two[x, y]
                b[0] = a[0] | a[min(1, nz - 1)]
                b[nz - 1] = a[nz - 1] | a[max(nz - 2, 0)]
                for z in range(1, nz - 1):
                    b[z] = a[z - 1] | a[z] | a[z + 1]
            for y in range(ny):
                a, b, c, d = two[x, max(y - 1, 0)], two[x, y], two[x, min(y + 1, ny - 1)], one[x, y]
                for z in range(nz):
                    d[z] = a[z] | b[z] | c[z]
        for x in range(nx):
            for y in range(ny):
                a, b, c, d, e = one[max(x - 1, 0), y], one[x, y], one[min(x + 1, nx - 1), y], two[x, y], out[x, y]
                for z in range(nz):
                    v = a[z] | b[z] | c[z]
                    d[z] = v
                    e[z] += np.uint8(1) - v
        one, two = two, one


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


@inlined
def _reach(c, v, low, high, best):  # type: ignore[no-untyped-def]
    """The smaller of ``best`` and the time at which c + v t leaves [low, high]."""
    if v > _F0:
        return min(best, (high - c) / v)
    if v < _F0:
        return min(best, (low - c) / v)
    return best


@inlined
def _leap(lattice, t, near, jitter, vx, vy, vz, x, y, z, cx, cy, cz, free, k):  # type: ignore[no-untyped-def]
    """The first interval after k that may lie outside the empty cube of cells around (cx, cy, cz).

    Positions and speeds along the axes are in cells.
    """
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
        speed = max(abs(vx), max(abs(vy), abs(vz))) * (most / least) * np.float32(0.5) * _LIPSCHITZ
        time = max(margin, _F0) / max(speed, np.float32(1e-30))
    else:
        time = _reach(x, vx, lx, hx, _FAR)
        time = _reach(y, vy, ly, hy, time)
        time = _reach(z, vz, lz, hz, time)
    along = t + time - near
    if lattice.rate > _F0:
        position = min(along * lattice.rate - jitter, np.float32(count))
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
def seek(lattice, rays, r, k):  # type: ignore[no-untyped-def]
    """The next sample of ray r from interval k on: (interval, t, width, unit x, y, z); interval = K where there is none."""
    count = lattice.count
    nx, ny, nz = lattice.cells
    ax, ay, az = lattice.lower
    sx, sy, sz = lattice.size
    ox, oy, oz = float_at(rays.origins, 3 * r), float_at(rays.origins, 3 * r + 1), float_at(rays.origins, 3 * r + 2)
    dx, dy, dz = float_at(rays.directions, 3 * r), float_at(rays.directions, 3 * r + 1), float_at(rays.directions, 3 * r + 2)
    near, far, jitter = float_at(rays.near, r), float_at(rays.far, r), float_at(rays.jitter, r)
    fx, fy, fz = np.float32(nx), np.float32(ny), np.float32(nz)
    vx, vy, vz = dx / sx * fx, dy / sy * fy, dz / sz * fz
    while k < count:
        start = float_at(lattice.edges, k)
        width = float_at(lattice.edges, k + 1) - start
        t = near + (start + jitter * width)
        if not t < far:
            break
        x = (ox + t * dx - ax) / sx
        y = (oy + t * dy - ay) / sy
        z = (oz + t * dz - az) / sz
        if lattice.unbounded:
            x, y, z = contracted(x, y, z)
        if x >= _F0 and x <= _F1 and y >= _F0 and y <= _F1 and z >= _F0 and z <= _F1:
            cx = min(np.int64(x * fx), nx - 1)
            cy = min(np.int64(y * fy), ny - 1)
            cz = min(np.int64(z * fz), nz - 1)
            free = np.int64(byte_at(lattice.skip, (cx * ny + cy) * nz + cz))
            if free == 0:
                return k, t, width, x, y, z
            k = _leap(lattice, t, near, jitter, vx, vy, vz, x * fx, y * fy, z * fz, cx, cy, cz, free, k)
        else:
            k += 1
    return count, _F0, _F0, _F0, _F0, _F0


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
                k = np.int64(0)
                while True:
                    k = seek(lattice.plain, rays.plain, r, k)[0] + 1
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
            k = np.int64(0)
            for at in range(offsets[r], offsets[r + 1]):
                sample = seek(lattice.plain, rays.plain, r, k)
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
