"""Light: a soft key light from a window, a strip light, a pale sky, and what surfaces make of it.

Reflection is Schlick's Fresnel term with the GGX distribution and Smith's masking (Walter et al.
2007) for the key light, and the environment, blurred by roughness, for everything else.
"""

from __future__ import annotations

import math

from .jit import device
from .textures import step

KEY = (0.4915, -0.5616, 0.6656)
"""Direction towards the key light, unit length."""


@device
def environment(x, y, z, roughness):
    """Radiance (r, g, b) from a unit direction, blurred for a surface of some roughness."""
    blur = 0.05 + 0.9 * roughness
    up = step(-0.25 - blur, 0.75 + 0.25 * blur, z)
    r = 0.30 + 0.34 * up
    g = 0.29 + 0.40 * up
    b = 0.28 + 0.50 * up
    # A pale floor, brighter away from under the object.
    floor = step(0.02, -0.30 - blur, z) * 0.42
    r, g, b = r + floor * 0.98, g + floor * 0.94, b + floor * 0.88
    # A dark stretch of wall at the horizon: without it metal has nothing to show.
    wall = (
        math.exp(-(((z - 0.02) / (0.13 + 0.6 * blur)) ** 2)) * (0.60 + 0.30 * math.sin(2.0 * math.atan2(y, x) + 0.6)) / (1.0 + 2.0 * blur)
    )
    r, g, b = r * (1.0 - 0.85 * wall), g * (1.0 - 0.85 * wall), b * (1.0 - 0.80 * wall)
    # The window: a square around the key direction, in two panes.
    along = x * 0.4915 + y * -0.5616 + z * 0.6656
    if along > 0.0:
        u = (x * 0.7525 + y * 0.6586) / along
        v = (x * -0.4384 + y * 0.5009 + z * 0.7463) / along
        pane = step(0.42 + blur, 0.42 - 0.6 * blur, abs(u)) * step(0.42 + blur, 0.42 - 0.6 * blur, abs(v))
        pane *= 1.0 - 0.85 * step(0.045 + 0.5 * blur, 0.02, abs(u)) * (1.0 - min(1.0, 3.0 * roughness))
        gain = 3.6 / (1.0 + 9.0 * roughness * roughness)
        r, g, b = r + gain * pane, g + 0.94 * gain * pane, b + 0.82 * gain * pane
    # A cool strip light on the other side.
    side = x * -0.82 + y * 0.52 + z * 0.24
    if side > 0.0:
        u = (x * 0.535 + y * 0.845) / side
        strip = step(0.16 + blur, 0.16 - 0.4 * blur, abs(u)) * step(0.85 + blur, 0.75 - blur, abs(z - 0.24 * side) / side)
        gain = 2.2 / (1.0 + 6.0 * roughness)
        r, g, b = r + 0.80 * gain * strip, g + 0.92 * gain * strip, b + gain * strip
    return r, g, b


@device
def irradiance(x, y, z):
    """Diffuse light (r, g, b) on a surface with normal (x, y, z) from all but the key light, for an albedo of one."""
    up = 0.5 + 0.5 * z
    side = max(0.0, x * -0.82 + y * 0.52 + z * 0.24)
    r = 0.26 + 0.28 * up + 0.12 * side
    g = 0.25 + 0.32 * up + 0.14 * side
    b = 0.25 + 0.38 * up + 0.17 * side
    return r, g, b


@device
def highlight(nx, ny, nz, vx, vy, vz, roughness):
    """(D * G / 4 cos cos, cosine of half vector and view) of the key light for normal n and view direction v."""
    hx, hy, hz = KEY[0] + vx, KEY[1] + vy, KEY[2] + vz
    size = math.sqrt(hx * hx + hy * hy + hz * hz)
    if size < 1e-9:
        return 0.0, 1.0
    hx, hy, hz = hx / size, hy / size, hz / size
    light = max(nx * KEY[0] + ny * KEY[1] + nz * KEY[2], 0.0)
    view = max(nx * vx + ny * vy + nz * vz, 1e-4)
    if light <= 0.0:
        return 0.0, 1.0
    half = max(nx * hx + ny * hy + nz * hz, 0.0)
    # The sun of a studio is a lamp of some width: no highlight is sharper than that.
    alpha = max(roughness * roughness, 0.012)
    square = alpha * alpha
    lobe = half * half * (square - 1.0) + 1.0
    distribution = square / (math.pi * lobe * lobe)
    k = 0.5 * alpha
    masking = 1.0 / ((light * (1.0 - k) + k) * (view * (1.0 - k) + k))
    return 0.25 * distribution * masking, max(vx * hx + vy * hy + vz * hz, 0.0)


@device
def fresnel(base, cosine, roughness):
    """Schlick's approximation, its rise towards grazing angles limited on rough surfaces."""
    return base + (max(1.0 - roughness, base) - base) * (1.0 - cosine) ** 5


@device
def display(linear):
    """Linear radiance to an sRGB value in [0, 1], through a filmic curve (Narkowicz's fit of ACES)."""
    x = 0.66 * max(linear, 0.0)
    x = min(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 1.0)
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1.0 / 2.4) - 0.055
