"""Sphere tracing (Hart 1996) through the union of the scene's solids, with a coarse grid that skips empty space.

Each grid cell knows the distance from its centre to the nearest surface, which bounds a safe
step, and which objects can be nearest anywhere inside it, so a step near a surface evaluates
one to three of the objects. The result is that of the exact distances.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import device, kernel
from .shading import KEY, display, environment, fresnel, highlight, irradiance
from .solids import SURFACE, local, object_distance
from .textures import surface

HIT = 2.0e-5
"""Distance to a surface that counts as on it."""
FAR = 1e9
REACH = 5.0
"""Cells this many cell sides from a surface know their nearest objects."""
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Its 64 shifts have 64 different upper six bits: multiplied by a power of two it tells the power."""
BIT_INDEX = np.zeros(64, np.int64)
for _bit in range(64):
    BIT_INDEX[((int(DE_BRUIJN) << _bit) & (2**64 - 1)) >> 58] = _bit


@kernel
def union_distance(points, objects, profiles, out, which):
    """Signed distance ``out`` [N] of points [N, 3] to the union, and the nearest object ``which`` [N]."""
    for n in range(points.shape[0]):
        best, nearest = FAR, -1
        for k in range(objects.shape[0]):
            d = object_distance(k, points[n, 0], points[n, 1], points[n, 2], objects, profiles)
            if d < best:
                best, nearest = d, k
        out[n] = best
        which[n] = nearest


@kernel
def fill_grid(lower, cell, first, last, objects, profiles, centre, members, reach):
    """Blocks ``first`` to ``last`` along x of the grid: ``centre`` [G, G, G] lower bound of the distance at cell centres
    (exact below ``reach``), ``members`` [G, G, G] bit masks.

    Cells farther than ``reach`` from everything get no members; they are only stepped through.
    A block of 4 x 4 x 4 cells first finds the objects that can matter to any of its cells.
    """
    blocks = centre.shape[0] // 4
    count = objects.shape[0]
    half = 0.5 * math.sqrt(3.0) * cell
    values = np.empty(count)
    chosen = np.empty(count, np.int64)
    for bi in range(first, last):
        for bj in range(blocks):
            for bk in range(blocks):
                x, y, z = lower + (4 * bi + 2) * cell, lower + (4 * bj + 2) * cell, lower + (4 * bk + 2) * cell
                near = FAR
                for o in range(count):
                    values[o] = object_distance(o, x, y, z, objects, profiles)
                    near = min(near, values[o])
                far_away = near - 4.0 * half > reach
                some = 0
                for o in range(count):
                    # Both the nearest object and another may change by half a block's diagonal, then by a cell's.
                    if values[o] <= near + 10.0 * half:
                        chosen[some] = o
                        some += 1
                for i in range(4 * bi, 4 * bi + 4):
                    for j in range(4 * bj, 4 * bj + 4):
                        for k in range(4 * bk, 4 * bk + 4):
                            u, v, w = lower + (i + 0.5) * cell, lower + (j + 0.5) * cell, lower + (k + 0.5) * cell
                            if far_away:
                                d2 = (u - x) * (u - x) + (v - y) * (v - y) + (w - z) * (w - z)
                                centre[i, j, k] = near - math.sqrt(d2)
                                members[i, j, k] = np.uint64(0)
                                continue
                            best = FAR
                            for c in range(some):
                                values[c] = object_distance(chosen[c], u, v, w, objects, profiles)
                                best = min(best, values[c])
                            mask = np.uint64(0)
                            if best < reach:
                                for c in range(some):
                                    if values[c] <= best + 2.0 * half + 1e-6:
                                        mask |= np.uint64(1) << np.uint64(chosen[c])
                            centre[i, j, k] = best
                            members[i, j, k] = mask


@device
def _distance(x, y, z, grid, scene, exact):
    """(lower bound of the distance, nearest object or -1); the distance itself where a cell is closer than ``exact`` to a surface."""
    lower, cell, centre, members = grid
    objects, profiles = scene
    side = centre.shape[0]
    i = min(max(int((x - lower) / cell), 0), side - 1)
    j = min(max(int((y - lower) / cell), 0), side - 1)
    k = min(max(int((z - lower) / cell), 0), side - 1)
    if centre[i, j, k] > exact:
        u = x - (lower + (i + 0.5) * cell)
        v = y - (lower + (j + 0.5) * cell)
        w = z - (lower + (k + 0.5) * cell)
        return centre[i, j, k] - math.sqrt(u * u + v * v + w * w), -1
    mask = members[i, j, k]
    best, nearest = FAR, -1
    while mask != np.uint64(0):
        bit = mask & (~mask + np.uint64(1))
        mask ^= bit
        o = BIT_INDEX[(bit * DE_BRUIJN) >> np.uint64(58)]
        d = object_distance(o, x, y, z, objects, profiles)
        if d < best:
            best, nearest = d, o
    return best, nearest


@device
def _enter(ox, oy, oz, dx, dy, dz, lower):
    """Where a ray crosses the grid's cube: (near, far), near > far if it misses."""
    near, far = 0.0, FAR
    for axis in range(3):
        o = ox if axis == 0 else (oy if axis == 1 else oz)
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        if abs(d) < 1e-12:
            if abs(o) > -lower:
                return 1.0, 0.0
            continue
        a, b = (lower - o) / d, (-lower - o) / d
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near, far


@device
def _march(ox, oy, oz, dx, dy, dz, start, grid, scene):
    """(distance along the ray, object) of the first surface beyond ``start``, or (-1, -1)."""
    near, far = _enter(ox, oy, oz, dx, dy, dz, grid[0])
    t = max(near, start)
    nearest = -1
    for _ in range(400):
        if t > far:
            return -1.0, -1
        d, nearest = _distance(ox + t * dx, oy + t * dy, oz + t * dz, grid, scene, 1.6 * grid[1])
        if d < HIT:
            return t, nearest
        t += max(d, HIT)
    return t, nearest  # a ray that grazes a surface for so long is as good as on it


@device
def _shadow(x, y, z, grid, scene):
    """Share of the key light that arrives, with a penumbra from the closest miss."""
    _, far = _enter(x, y, z, KEY[0], KEY[1], KEY[2], grid[0])
    light, t, cell = 1.0, 0.004, grid[1]
    for _ in range(90):
        if t > far:
            break
        # Only a miss closer than t / 14 dims the light; distances beyond it need not be exact.
        exact = min(REACH * cell, 1.6 * cell + t / 14.0)
        d, _ = _distance(x + t * KEY[0], y + t * KEY[1], z + t * KEY[2], grid, scene, exact)
        light = min(light, 14.0 * d / t)
        if light < 0.01:
            return 0.0
        t += max(d * 0.9, 0.003)
    return light * light * (3.0 - 2.0 * light)


@device
def _open(x, y, z, nx, ny, nz, taps, grid, scene):
    """Ambient occlusion: how far surfaces stay away along the normal, in [0, 1]."""
    blocked, weight = 0.0, 1.0
    for i in range(taps):
        h = 0.010 + 0.170 * i / taps
        d, _ = _distance(x + h * nx, y + h * ny, z + h * nz, grid, scene, REACH * grid[1])
        blocked += weight * max(h - d, 0.0)
        weight *= 0.75
    return max(1.0 - 16.0 / taps * blocked, 0.06)


@device
def _normal(k, x, y, z, scene):
    """Unit gradient of one object's distance, by the four corners of a tetrahedron."""
    objects, profiles = scene
    e = 1e-4
    a = object_distance(k, x + e, y - e, z - e, objects, profiles)
    b = object_distance(k, x - e, y - e, z + e, objects, profiles)
    c = object_distance(k, x - e, y + e, z - e, objects, profiles)
    d = object_distance(k, x + e, y + e, z + e, objects, profiles)
    nx, ny, nz = a - b - c + d, -a - b + c + d, -a + b - c + d
    size = math.sqrt(nx * nx + ny * ny + nz * nz)
    if size < 1e-12:
        return 0.0, 0.0, 1.0
    return nx / size, ny / size, nz / size


@device
def _shade(k, x, y, z, nx, ny, nz, dx, dy, dz, bounce, grid, scene):
    """Radiance (r, g, b) towards -d from a point of object k; reflections see the scene once (``bounce``)."""
    objects, _ = scene
    u, v, w = local(k, x, y, z, objects)
    up = objects[k, 6] * nx + objects[k, 7] * ny + objects[k, 8] * nz
    share, rough, gain = surface(int(objects[k, SURFACE + 5]), objects[k, SURFACE + 9], u, v, w, up, k, objects)
    metallic, roughness = objects[k, SURFACE + 3], objects[k, SURFACE + 4] * rough
    if share > 1.5:  # brass lines set into the surface
        cr, cg, cb, metallic, roughness = 0.82, 0.51, 0.15, 1.0, 0.16
    else:
        cr = (objects[k, SURFACE + 0] + share * (objects[k, SURFACE + 6] - objects[k, SURFACE + 0])) * gain
        cg = (objects[k, SURFACE + 1] + share * (objects[k, SURFACE + 7] - objects[k, SURFACE + 1])) * gain
        cb = (objects[k, SURFACE + 2] + share * (objects[k, SURFACE + 8] - objects[k, SURFACE + 2])) * gain
        if int(objects[k, SURFACE + 5]) == 4:  # a zodiac's enamels: blue, crimson, green
            if share > 0.75:
                cr, cg, cb = 0.030, 0.150, 0.090
            elif share > 0.25:
                cr, cg, cb = 0.300, 0.018, 0.030
            else:
                cr, cg, cb = objects[k, SURFACE + 0], objects[k, SURFACE + 1], objects[k, SURFACE + 2]
    facing = max(-(nx * dx + ny * dy + nz * dz), 0.0)
    sx, sy, sz = x + 6e-4 * nx, y + 6e-4 * ny, z + 6e-4 * nz
    towards = nx * KEY[0] + ny * KEY[1] + nz * KEY[2]
    lit = _shadow(sx, sy, sz, grid, scene) * towards if towards > 0.0 else 0.0
    open_ = _open(x, y, z, nx, ny, nz, 5, grid, scene)
    ir, ig, ib = irradiance(nx, ny, nz)
    matt = 1.0 - metallic
    r = matt * cr * (ir * open_ + 2.05 * lit)
    g = matt * cg * (ig * open_ + 1.86 * lit)
    b = matt * cb * (ib * open_ + 1.56 * lit)
    base_r, base_g, base_b = 0.045 + metallic * (cr - 0.045), 0.045 + metallic * (cg - 0.045), 0.045 + metallic * (cb - 0.045)
    if lit > 0.0:
        lobe, cosine = highlight(nx, ny, nz, -dx, -dy, -dz, roughness)
        lobe = min(lobe, 6.0) * lit
        r += lobe * fresnel(base_r, cosine, 0.0)
        g += lobe * 0.94 * fresnel(base_g, cosine, 0.0)
        b += lobe * 0.82 * fresnel(base_b, cosine, 0.0)
    twice = 2.0 * (nx * dx + ny * dy + nz * dz)
    rx, ry, rz = dx - twice * nx, dy - twice * ny, dz - twice * nz
    er, eg, eb = environment(rx, ry, rz, roughness)
    dimmed = open_ + (1.0 - open_) * 0.25 * (1.0 - roughness)
    er, eg, eb = er * dimmed, eg * dimmed, eb * dimmed
    if bounce and roughness < 0.3 and (metallic > 0.5 or facing < 0.8 or roughness < 0.1):
        t, other = _march(sx, sy, sz, rx, ry, rz, 1e-3, grid, scene)
        if other >= 0:
            hx, hy, hz = sx + t * rx, sy + t * ry, sz + t * rz
            mx, my, mz = _normal(other, hx, hy, hz, scene)
            fr, fg, fb = _plain(other, hx, hy, hz, mx, my, mz, rx, ry, rz, grid, scene)
            # What is far from a rough mirror is blurred away into its surroundings.
            sharp = 1.0 / (1.0 + (6.0 * roughness * roughness) * t / 0.05)
            er, eg, eb = er + sharp * (fr - er), eg + sharp * (fg - eg), eb + sharp * (fb - eb)
    r += er * fresnel(base_r, facing, roughness)
    g += eg * fresnel(base_g, facing, roughness)
    b += eb * fresnel(base_b, facing, roughness)
    return r, g, b


@device
def _plain(k, x, y, z, nx, ny, nz, dx, dy, dz, grid, scene):
    """As :func:`_shade` for what is seen in a reflection: metal mirrors the surroundings only."""
    objects, _ = scene
    u, v, w = local(k, x, y, z, objects)
    up = objects[k, 6] * nx + objects[k, 7] * ny + objects[k, 8] * nz
    share, _, gain = surface(int(objects[k, SURFACE + 5]), objects[k, SURFACE + 9], u, v, w, up, k, objects)
    share = min(share, 1.0)
    cr, cg, cb = (
        (objects[k, SURFACE + 0] + share * (objects[k, SURFACE + 6] - objects[k, SURFACE + 0])) * gain,
        (objects[k, SURFACE + 1] + share * (objects[k, SURFACE + 7] - objects[k, SURFACE + 1])) * gain,
        (objects[k, SURFACE + 2] + share * (objects[k, SURFACE + 8] - objects[k, SURFACE + 2])) * gain,
    )
    towards = nx * KEY[0] + ny * KEY[1] + nz * KEY[2]
    lit = _shadow(x + 6e-4 * nx, y + 6e-4 * ny, z + 6e-4 * nz, grid, scene) * towards if towards > 0.0 else 0.0
    open_ = _open(x, y, z, nx, ny, nz, 2, grid, scene)
    ir, ig, ib = irradiance(nx, ny, nz)
    matt = 1.0 - objects[k, SURFACE + 3]
    r, g, b = matt * cr * (ir * open_ + 2.05 * lit), matt * cg * (ig * open_ + 1.86 * lit), matt * cb * (ib * open_ + 1.56 * lit)
    twice = 2.0 * (nx * dx + ny * dy + nz * dz)
    er, eg, eb = environment(dx - twice * nx, dy - twice * ny, dz - twice * nz, objects[k, SURFACE + 4])
    mirror = objects[k, SURFACE + 3] * open_
    return r + er * mirror * cr, g + eg * mirror * cg, b + eb * mirror * cb


@kernel
def trace_rays(origins, directions, first, last, lower, cell, centre, members, objects, profiles, rgba, depth, normals, which):
    """Rays ``first`` to ``last``: display colour and hit (rgba [N, 4]), distance [N], unit normal [N, 3], object [N] or -1."""
    grid = (lower, cell, centre, members)
    scene = (objects, profiles)
    for n in range(first, last):
        ox, oy, oz = origins[n, 0], origins[n, 1], origins[n, 2]
        dx, dy, dz = directions[n, 0], directions[n, 1], directions[n, 2]
        t, k = _march(ox, oy, oz, dx, dy, dz, 0.0, grid, scene)
        which[n] = k
        if k < 0:
            rgba[n, 0] = rgba[n, 1] = rgba[n, 2] = rgba[n, 3] = 0.0
            depth[n] = 0.0
            normals[n, 0] = normals[n, 1] = normals[n, 2] = 0.0
            continue
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        nx, ny, nz = _normal(k, x, y, z, scene)
        r, g, b = _shade(k, x, y, z, nx, ny, nz, dx, dy, dz, True, grid, scene)
        rgba[n, 0], rgba[n, 1], rgba[n, 2], rgba[n, 3] = display(r), display(g), display(b), 1.0
        depth[n] = t
        normals[n, 0], normals[n, 1], normals[n, 2] = nx, ny, nz
