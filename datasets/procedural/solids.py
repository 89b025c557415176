"""Signed distances of the scene's building blocks, in their own coordinates.

Negative inside. Outside, spheres, tori, rods, bands, disks, boxes, arcs, posts and turned solids are
exact; a gear's value never exceeds the true distance and vanishes exactly on its surface.
Formulas are elementary geometry: distance to the nearest point of a profile in a half plane
(bodies of revolution), folding by symmetry (posts, teeth).
"""

from __future__ import annotations

import math

from .jit import device

SPHERE, BAND, TORUS, ROD, DISK, BOX, ARC, GEAR, POSTS, TURNED = range(10)

AXES, ORIGIN, KIND, A, SURFACE = 0, 9, 12, 13, 23
"""Columns of an object's row in the table: its axes, origin, kind, dimensions (``a`` below: their number i is column A + i), surface.

Rows are read element by element: a view of one would count references, which threads fight over.
"""


@device
def _rectangle(u, v, rounding):
    """Distance from the signed excesses over a rectangle's half sides, corners rounded."""
    u += rounding
    v += rounding
    outside_u, outside_v = max(u, 0.0), max(v, 0.0)
    return min(max(u, v), 0.0) + math.sqrt(outside_u * outside_u + outside_v * outside_v) - rounding


@device
def _box(k, x, y, z, objects):
    """Half sides a[0], a[1], a[2]; rounding a[3]."""
    u, v, w = (
        abs(x) - objects[k, A + 0] + objects[k, A + 3],
        abs(y) - objects[k, A + 1] + objects[k, A + 3],
        abs(z) - objects[k, A + 2] + objects[k, A + 3],
    )
    s, t, r = max(u, 0.0), max(v, 0.0), max(w, 0.0)
    return min(max(u, max(v, w)), 0.0) + math.sqrt(s * s + t * t + r * r) - objects[k, A + 3]


@device
def _arc(k, x, y, z, objects):
    """Part of a torus (radius a[0], tube a[1]) about the z axis, within angle a[2] of the x axis, with round ends."""
    angle = math.atan2(y, x)
    if abs(angle) > objects[k, A + 2]:
        end = math.copysign(objects[k, A + 2], angle)
        dx, dy = x - objects[k, A + 0] * math.cos(end), y - objects[k, A + 0] * math.sin(end)
        return math.sqrt(dx * dx + dy * dy + z * z) - objects[k, A + 1]
    return math.hypot(math.sqrt(x * x + y * y) - objects[k, A + 0], z) - objects[k, A + 1]


@device
def _fold(x, y, count):
    """The point turned about the z axis into the sector of half width pi / count around the x axis."""
    sector = 2.0 * math.pi / count
    angle = math.atan2(y, x)
    angle -= sector * math.floor(angle / sector + 0.5)
    radius = math.sqrt(x * x + y * y)
    return radius * math.cos(angle), radius * math.sin(angle)


@device
def _gear(k, x, y, z, objects):
    """Pitch radius a[0], tooth half height a[1], teeth a[2], half thickness a[3], hub radius a[4],
    rim's inner radius a[5], spokes a[6], spoke half width a[7], rounding a[8]."""
    radius = math.sqrt(x * x + y * y)
    u, v = _fold(x, y, objects[k, A + 2])
    flank = math.pi * objects[k, A + 0] / objects[k, A + 2] * 0.5  # half a tooth at the pitch circle: tooth and gap are equally wide
    tooth = max(
        u - objects[k, A + 0] - objects[k, A + 1], (abs(v) - flank) * 0.9205 + (u - objects[k, A + 0]) * 0.3907
    )  # flanks lean by 23 degrees
    profile = min(radius - objects[k, A + 0] + objects[k, A + 1], max(tooth, -u))
    if objects[k, A + 6] > 0.0:
        _, across = _fold(x, y, objects[k, A + 6])
        window = max(max(radius - objects[k, A + 5], objects[k, A + 4] - radius), objects[k, A + 7] - abs(across))
        profile = max(profile, -window)
    return _rectangle(profile, abs(z) - objects[k, A + 3], objects[k, A + 8])


@device
def _posts(k, x, y, z, objects):
    """a[1] upright rods on a circle of radius a[0]: half height a[2], rod radius a[3], a ball of radius a[4] on top of each."""
    u, v = _fold(x, y, objects[k, A + 1])
    u -= objects[k, A + 0]
    up = z - min(max(z, -objects[k, A + 2]), objects[k, A + 2])
    top = z - objects[k, A + 2]
    flat = u * u + v * v
    return min(math.sqrt(flat + up * up) - objects[k, A + 3], math.sqrt(flat + top * top) - objects[k, A + 4])


@device
def _turned(k, x, y, z, objects, profiles):
    """Body of revolution of the polygon profiles[a[0] : a[0] + a[1]] in (radius, z); edges on the axis are no surface."""
    r = math.sqrt(x * x + y * y)
    first, count = int(objects[k, A + 0]), int(objects[k, A + 1])
    best = 1e30
    inside = False
    j = first + count - 1
    for i in range(first, first + count):
        r0, z0, r1, z1 = profiles[i, 0], profiles[i, 1], profiles[j, 0], profiles[j, 1]
        er, ez = r1 - r0, z1 - z0
        pr, pz = r - r0, z - z0
        if r0 > 0.0 or r1 > 0.0:
            along = min(max((pr * er + pz * ez) / (er * er + ez * ez), 0.0), 1.0)
            dr, dz = pr - er * along, pz - ez * along
            best = min(best, dr * dr + dz * dz)
        if (z0 > z) != (z1 > z) and r < er * (z - z0) / ez + r0:
            inside = not inside
        j = i
    return -math.sqrt(best) if inside else math.sqrt(best)


@device
def local(k, x, y, z, objects):
    """World point to object k's coordinates."""
    dx, dy, dz = x - objects[k, 9], y - objects[k, 10], z - objects[k, 11]
    return (
        objects[k, 0] * dx + objects[k, 1] * dy + objects[k, 2] * dz,
        objects[k, 3] * dx + objects[k, 4] * dy + objects[k, 5] * dz,
        objects[k, 6] * dx + objects[k, 7] * dy + objects[k, 8] * dz,
    )


@device
def object_distance(k, x, y, z, objects, profiles):
    """Signed distance of a world point to object k."""
    x, y, z = local(k, x, y, z, objects)
    kind = int(objects[k, KIND])
    if kind == SPHERE:  # radius
        return math.sqrt(x * x + y * y + z * z) - objects[k, A]
    if kind == TORUS:  # radius, tube
        return math.sqrt((math.sqrt(x * x + y * y) - objects[k, A]) ** 2 + z * z) - objects[k, A + 1]
    if kind == BAND:  # radius, half radial width, half height, rounding
        return _rectangle(abs(math.sqrt(x * x + y * y) - objects[k, A]) - objects[k, A + 1], abs(z) - objects[k, A + 2], objects[k, A + 3])
    if kind == ROD:  # half length along z, radius
        up = z - min(max(z, -objects[k, A]), objects[k, A])
        return math.sqrt(x * x + y * y + up * up) - objects[k, A + 1]
    if kind == DISK:  # radius, half height, rounding
        return _rectangle(math.sqrt(x * x + y * y) - objects[k, A], abs(z) - objects[k, A + 1], objects[k, A + 2])
    if kind == POSTS:
        return _posts(k, x, y, z, objects)
    if kind == GEAR:
        return _gear(k, x, y, z, objects)
    if kind == ARC:
        return _arc(k, x, y, z, objects)
    if kind == BOX:
        return _box(k, x, y, z, objects)
    return _turned(k, x, y, z, objects, profiles)
