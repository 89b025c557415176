"""Procedural colour: wood, marble, inlay, graduations. All functions of a point in the object's coordinates."""

from __future__ import annotations

import math

import numpy as np

from .jit import device
from .palette import BANDED, BRUSHED, DIE, GRADUATED, INLAY, MARBLE, RINGS, STRIPES, WOOD, ZODIAC
from .solids import A


@device
def _lattice(i, j, k):
    """A reproducible value in [0, 1] per lattice point (xor-shift multiply hash)."""
    h = (np.uint32(i) * np.uint32(374761393)) ^ (np.uint32(j) * np.uint32(668265263)) ^ (np.uint32(k) * np.uint32(2147483647))
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = (h ^ (h >> np.uint32(16))) & np.uint32(0xFFFFFF)
    return float(h) / 16777215.0


@device
def noise(x, y, z):
    """Value noise in [0, 1], smooth to the second derivative."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u = u * u * u * (u * (u * 6.0 - 15.0) + 10.0)
    v = v * v * v * (v * (v * 6.0 - 15.0) + 10.0)
    w = w * w * w * (w * (w * 6.0 - 15.0) + 10.0)
    total = 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (u if a else 1.0 - u) * (v if b else 1.0 - v) * (w if c else 1.0 - w)
        total += weight * _lattice(i + a, j + b, k + c)
    return total


@device
def turbulence(x, y, z, octaves):
    """Sum of ever finer noise, in about [0, 1]."""
    total, amplitude = 0.0, 0.5
    for _ in range(octaves):
        total += amplitude * noise(x, y, z)
        x, y, z = 2.03 * x + 17.1, 2.03 * y + 5.3, 2.03 * z + 9.7
        amplitude *= 0.5
    return total


@device
def step(low, high, x):
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@device
def _wave(x):
    """Triangle wave: distance of x to the nearest integer, in [0, 0.5]."""
    return abs(x - math.floor(x + 0.5))


@device
def _wood(x, y, z):
    """Share of light wood: growth rings around a far-off, tilted trunk axis, plus fibres along it."""
    warp = turbulence(2.3 * x, 2.3 * y, 0.8 * z, 3)
    u, v = y + 1.35 + 0.22 * x, z + 0.35 + 0.12 * x
    ring = math.sqrt(u * u + v * v) * 11.0 + 1.9 * warp
    grain = ring - math.floor(ring)
    late = step(0.0, 0.75, grain) * (1.0 - step(0.82, 1.0, grain))
    fibre = noise(3.0 * x, 90.0 * u, 90.0 * v)
    return min(max(0.15 + 0.60 * late + 0.35 * (fibre - 0.5), 0.0), 1.0)


@device
def _veins(x, y, z, frequency):
    """Share of vein colour in marble."""
    folded = abs(math.sin(frequency * (x + 0.6 * y + 0.4 * z) + 9.0 * turbulence(3.0 * x + 5.0, 3.0 * y, 3.0 * z, 4)))
    return 0.75 * (1.0 - folded) ** 6 + 0.35 * turbulence(7.0 * x, 7.0 * y, 7.0 * z + 3.0, 3)


@device
def _inlay(x, y, z, tiles):
    """Marble top: 0 light, 1 dark, 2 brass line. A compass rose inside two rings of tiles."""
    r, angle = math.hypot(x, y), math.atan2(y, x) / (2.0 * math.pi)
    # Sixteen points in two sizes; each is half dark, half light along its ridge.
    sixteenth = angle * 8.0
    off = sixteenth - math.floor(sixteenth + 0.5)
    long = _wave(angle * 4.0) < 0.125
    reach = 0.47 if long else 0.34
    if r < 0.50:
        edge = reach - r
        if edge > 0.0 and abs(off) * r * 0.785 < 0.22 * edge:
            return 1.0 if off > 0.0 else 0.25
        if r > 0.485:
            return 2.0
        return 0.0
    if r < 0.515:
        return 2.0 if r > 0.508 else 1.0
    if r < 0.665:
        ring = 0.0 if r < 0.590 else 0.5
        return 1.0 if (angle * tiles + ring) - math.floor(angle * tiles + ring) < 0.5 else 0.0
    if r < 0.675:
        return 2.0
    return 1.0


@device
def _graduated(x, y, z, divisions):
    """Share of ink on a ring's scale: a tick per division, longer every sixth, with an edge line on either side."""
    angle = math.atan2(y, x) / (2.0 * math.pi) * divisions
    width = 0.16 if _wave(angle / 6.0) * 6.0 < 0.5 else 0.11
    return 1.0 if _wave(angle) < width else 0.0


@device
def _die(x, y, z, half):
    """1 on a pip. Opposite faces sum to seven."""
    ax, ay, az = abs(x), abs(y), abs(z)
    if ax >= ay and ax >= az:
        value, u, v = (1 if x > 0.0 else 6), y, z
    elif ay >= az:
        value, u, v = (2 if y > 0.0 else 5), x, z
    else:
        value, u, v = (3 if z > 0.0 else 4), x, y
    u, v = u / half, v / half
    size = 0.20
    if value % 2 == 1 and u * u + v * v < size * size * (1.9 if value == 1 else 1.0):
        return 1.0
    if value >= 2:
        s = 1.0 if u + v > 0.0 else -1.0
        if (u - s * 0.48) ** 2 + (v - s * 0.48) ** 2 < size * size:
            return 1.0
    if value >= 4:
        s = 1.0 if u - v > 0.0 else -1.0
        if (u - s * 0.48) ** 2 + (v + s * 0.48) ** 2 < size * size:
            return 1.0
    if value == 6 and (abs(u) - 0.48) ** 2 + v * v < size * size:
        return 1.0
    return 0.0


@device
def _zodiac(x, y, z, signs, radius, half):
    """0 to 1: enamel shade of a sign; 2: gilt line. The outer face of a band with half height ``half``."""
    angle = math.atan2(y, x) / (2.0 * math.pi) * signs
    if math.hypot(x, y) < radius or abs(z) > 0.86 * half:
        return 2.0
    if _wave(angle) < 0.045:
        return 2.0
    inner = angle - math.floor(angle) - 0.5
    height = z / half
    # A gilt star in the middle of each sign.
    u, v = inner * 5.6, height
    r, turned = math.hypot(u, v), math.atan2(v, u) / (2.0 * math.pi) * 6.0
    if r < 0.30 + 0.34 * (0.5 - 2.0 * _wave(turned) + 0.5) ** 2.0:
        return 2.0
    if abs(height) > 0.62 and _wave(angle * 5.0) < 0.16:
        return 2.0
    return (math.floor(angle) % 3.0) / 2.0


@device
def surface(texture, detail, x, y, z, nz, k, objects):
    """(share of the second colour, factor on roughness, factor on colour) at a point in object coordinates.

    ``nz`` is the normal's z in the same coordinates; its dimensions are read from the table. A share of 2 means brass inlay.
    """
    if texture == WOOD:
        share = _wood(x, y, z)
        return share, 1.0 + 0.4 * (1.0 - share), 1.0
    if texture == INLAY:
        share = _inlay(x, y, z, detail)
        veins = _veins(2.2 * x, 2.2 * y, 0.3 + share, 3.0)
        return share, 1.0, (1.0 - 0.34 * veins) if share < 0.5 else (0.8 + 1.1 * veins if share < 1.5 else 1.0)
    if texture == GRADUATED:
        flat = abs(nz) > 0.7  # ink runs over the flat faces of wide rings and the outside of narrow ones
        across = (math.hypot(x, y) - objects[k, A + 0]) / objects[k, A + 1] if flat else z / objects[k, A + 2]
        if flat and objects[k, A + 1] < 0.03:
            return 0.0, 1.0, 1.0
        if abs(across) > 0.84:
            return 1.0, 1.0, 1.0
        long = _wave(math.atan2(y, x) / (2.0 * math.pi) * detail / 6.0) * 6.0 < 0.5
        if flat and across < 0.1:
            share = 1.0 if across > -0.62 and _wave(math.atan2(y, x) / (2.0 * math.pi) * 24.0 + 0.25) < 0.25 else 0.0
            return (share if across < -0.05 else 1.0), 1.0, 1.0
        return (_graduated(x, y, z, detail) if across > (0.15 if long else 0.42) or not flat else 0.0), 1.0, 1.0
    if texture == ZODIAC:
        return _zodiac(x, y, z, detail, objects[k, A], objects[k, A + 2]), 1.0, 1.0
    if texture == BANDED:
        swirl = turbulence(9.0 * x, 9.0 * y, 22.0 * z, 3)
        bands = 0.5 + 0.5 * math.sin(detail * 3.2 * z / objects[k, A + 0] * 0.55 + 3.0 * swirl)
        return bands, 1.0, 0.85 + 0.3 * swirl
    if texture == RINGS:
        return 0.5 + 0.5 * math.sin(detail * math.hypot(x, y) * 4.0), 1.0, 1.0
    if texture == DIE:
        return _die(x, y, z, objects[k, A + 0]), 1.0, 1.0
    if texture == STRIPES:
        return (1.0 if _wave(z / objects[k, A + 0] * 1.5 + 0.25) < 0.25 else 0.0), 1.0, 1.0
    if texture == MARBLE:
        return min(_veins(detail * 0.5 * x, detail * 0.5 * y, detail * 0.5 * z, 2.0), 1.0), 1.0, 1.0
    if texture == BRUSHED:
        streak = noise(detail * 3.0 * math.hypot(x, y), 3.0 * math.atan2(y, x), detail * 3.0 * z)
        return 0.7 * streak, 0.8 + 0.5 * streak, 1.0
    return 0.0, 1.0, 1.0
