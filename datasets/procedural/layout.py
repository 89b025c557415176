"""The scene itself: an armillary sphere on a turned wooden stand, with gears, dice and balls on its marble top.

Everything is placed from one seed. z points up, the whole fits the unit sphere's cube [-1, 1]^3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .palette import MATERIALS

Array = NDArray[np.float64]

# The kinds of solids.py, repeated because importing that module compiles; a test compares them.
SPHERE, BAND, TORUS, ROD, DISK, BOX, ARC, GEAR, POSTS, TURNED = range(10)
PARAMETERS = 10

CENTRE = np.array([0.0, 0.0, 0.20])
"""Middle of the armillary sphere."""
FLOOR = -0.735
"""Height of the marble top."""


@dataclass(frozen=True)
class Model:
    """Objects as a table, one row each; solids.py and palette.py say what the numbers mean."""

    names: tuple[str, ...]
    objects: Array  # [K, 33] axes as rows of world coordinates (9), origin (3), kind, dimensions (10), surface (10)
    profiles: Array  # [M, 2] polygons of turned bodies: radius, z


class Builder:
    """Collects the objects of a model."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[Array] = []
        self.profiles: list[Array] = []

    def add(self, name: str, kind: int, numbers: tuple[float, ...], material: str, at: Array, axes: Array | None = None) -> None:
        """``axes`` [3, 3] holds the object's axes as columns of world coordinates."""
        axes = np.eye(3) if axes is None else axes
        dimensions = np.zeros(PARAMETERS)
        dimensions[: len(numbers)] = numbers
        self.names.append(name)
        self.rows.append(np.concatenate([axes.T.ravel(), at, [kind], dimensions, MATERIALS[material].row()]))

    def turned(self, name: str, profile: list[tuple[float, float]], material: str, at: Array, smooth: int = 2) -> None:
        """A body of revolution; ``profile`` runs from the axis to the axis, its corners are rounded ``smooth`` times."""
        points = _cut_corners(np.array(profile), smooth)
        first = sum(len(p) for p in self.profiles)
        self.profiles.append(points)
        self.add(name, TURNED, (first, len(points)), material, at)

    def build(self) -> Model:
        return Model(tuple(self.names), np.array(self.rows), np.concatenate(self.profiles))


def _cut_corners(points: Array, times: int) -> Array:
    """Chaikin's corner cutting of an open polyline that keeps its ends."""
    for _ in range(times):
        first, last = points[:1], points[-1:]
        a = 0.75 * points[:-1] + 0.25 * points[1:]
        b = 0.25 * points[:-1] + 0.75 * points[1:]
        points = np.concatenate([first, np.stack([a, b], 1).reshape(-1, 2)[1:-1], last])
    return points


def turn(axis: str, degrees: float) -> Array:
    """Rotation about a coordinate axis, [3, 3]."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _polar(radius: float, degrees: float, z: float) -> Array:
    return np.array([radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees)), z])


def build_model(seed: int) -> Model:
    """The scene of a seed: the tilt of the sphere, where planets, gears, dice and balls are, and their colours vary."""
    rng = np.random.default_rng(seed)
    builder = Builder()
    _stand(builder)
    _holder(builder, float(rng.uniform(20.0, 70.0)))
    _sphere(builder, rng)
    _machine(builder, rng)
    return builder.build()


def _stand(b: Builder) -> None:
    for name, radius, low, high, rounding in (
        ("plinth", 0.835, -0.940, -0.858, 0.036),
        ("neck", 0.770, -0.870, -0.795, 0.004),
        ("table", 0.815, -0.812, -0.755, 0.020),
    ):
        b.add(name, DISK, (radius, 0.5 * (high - low), rounding), "mahogany", np.array([0.0, 0.0, 0.5 * (low + high)]))
    b.add("bead", TORUS, (0.770, 0.012), "polished brass", np.array([0.0, 0.0, -0.835]))
    for quarter in range(4):
        b.add(f"foot {quarter}", SPHERE, (0.055,), "brass", _polar(0.63, 45.0 + 90.0 * quarter, -0.945))
    b.add("top", DISK, (0.748, 0.012, 0.006), "inlay", np.array([0.0, 0.0, FLOOR - 0.012]))
    b.add("rail posts", POSTS, (0.718, 40.0, 0.046, 0.0085, 0.017), "brass", np.array([0.0, 0.0, FLOOR + 0.046]))
    b.add("rail", TORUS, (0.718, 0.0095), "polished brass", np.array([0.0, 0.0, FLOOR + 0.082]))


def _holder(b: Builder, turned: float) -> None:
    """Column, four arms and the horizon ring they carry."""
    shape = [(0.0, -0.735), (0.165, -0.735), (0.165, -0.715), (0.12, -0.705), (0.075, -0.69), (0.05, -0.64), (0.05, -0.60)]
    shape += [(0.085, -0.585), (0.085, -0.57), (0.05, -0.56), (0.075, -0.535), (0.085, -0.50), (0.06, -0.465), (0.04, -0.455)]
    shape += [(0.065, -0.445), (0.075, -0.425), (0.06, -0.405), (0.0, -0.405)]
    b.turned("column", shape, "polished brass", np.zeros(3))
    radius = 0.635
    for quarter in range(4):
        # The arc's own x axis points along its middle: halfway between straight down and outwards.
        outwards = turn("z", turned + 90.0 * quarter)
        axes = outwards @ turn("x", 90.0) @ turn("z", -45.0)
        b.add(
            f"arm {quarter}", ARC, (radius, 0.016, math.radians(43.0)), "brass", CENTRE + _polar(0.055, turned + 90.0 * quarter, 0.0), axes
        )
        b.add(f"knob {quarter}", SPHERE, (0.032,), "polished brass", _polar(0.69, turned + 90.0 * quarter, CENTRE[2] - 0.025))
    b.add("horizon", BAND, (0.695, 0.060, 0.011, 0.004), "horizon", CENTRE, turn("z", turned))
    b.add("meridian", BAND, (0.600, 0.015, 0.026, 0.004), "meridian", CENTRE, turn("z", turned + 45.0) @ turn("x", 90.0))


def _sphere(b: Builder, rng: np.random.Generator) -> None:
    """The tilted cage of celestial circles, the sun in its middle and planets on rods."""
    tilt = turn("z", float(rng.uniform(0.0, 360.0))) @ turn("y", float(rng.uniform(30.0, 50.0)))
    radius = 0.535
    b.add("axle", ROD, (0.60, 0.010), "steel", CENTRE, tilt)
    for side in (-1.0, 1.0):
        b.add(f"pole {side:+.0f}", SPHERE, (0.030,), "polished brass", CENTRE + tilt @ np.array([0.0, 0.0, side * 0.59]))
        for latitude, tube in ((23.44, 0.0095), (66.56, 0.0085)):
            at = CENTRE + tilt @ np.array([0.0, 0.0, side * radius * math.sin(math.radians(latitude))])
            b.add(f"circle {side * latitude:+.0f}", TORUS, (radius * math.cos(math.radians(latitude)), tube), "brass", at, tilt)
    for name, spin in (("colure 0", 0.0), ("colure 90", 90.0)):
        b.add(name, TORUS, (radius, 0.0115), "brass", CENTRE, tilt @ turn("z", spin) @ turn("x", 90.0))
    b.add("equator", BAND, (radius, 0.009, 0.024, 0.004), "equator", CENTRE, tilt)
    ecliptic = tilt @ turn("x", 23.44)
    b.add("ecliptic", BAND, (radius + 0.004, 0.008, 0.048, 0.004), "ecliptic", CENTRE, ecliptic)
    b.add("sun", SPHERE, (0.150,), "gold", CENTRE, ecliptic)
    start = float(rng.uniform(0.0, 360.0))
    planets = (
        ("jade planet", 0.255, 0.042),
        ("banded planet", 0.345, 0.068),
        ("ringed planet", 0.425, 0.050),
        ("ruby planet", 0.300, 0.036),
    )
    for number, (name, distance, size) in enumerate(planets):
        angle = start + 90.0 * number + float(rng.uniform(-18.0, 18.0))
        along = ecliptic @ turn("z", angle)
        place = CENTRE + along @ np.array([distance, 0.0, 0.0])
        b.add(f"{name}'s rod", ROD, (0.5 * distance, 0.0075), "steel", 0.5 * (CENTRE + place), along @ turn("y", 90.0))
        b.add(name, SPHERE, (size,), name, place, along @ turn("y", 15.0))
        if name == "ringed planet":
            b.add("planet's ring", BAND, (1.62 * size, 0.30 * size, 0.004, 0.002), "ring", place, along @ turn("y", 15.0) @ turn("x", 20.0))


def _machine(b: Builder, rng: np.random.Generator) -> None:
    """Meshing gears, dice and balls around the column, none touching another."""
    module = 0.0105  # pitch radius per tooth, all gears alike
    height = FLOOR + 0.055
    start = float(rng.uniform(0.0, 360.0))
    sense = 1.0 if rng.random() < 0.5 else -1.0
    teeth = 26
    main = module * teeth
    spin = float(rng.uniform(0.0, 360.0))
    b.add(
        "great wheel",
        GEAR,
        (main, 0.0125, teeth, 0.016, 0.085, main - 0.045, 6, 0.016, 0.002),
        "brass",
        np.array([0, 0, height]),
        turn("z", spin),
    )
    for name, count, angle, spokes, material in (
        ("copper wheel", 17, start, 5, "copper"),
        ("pinion", 11, start + sense * 105.0, 0, "steel"),
    ):
        radius = module * count
        place = _polar(main + radius + 0.002, angle, height)
        # A tooth of one wheel meets a gap of the other on the line between their axes.
        phase = (angle - spin) / 360.0 * teeth
        own = angle + 180.0 + (phase + 0.5) / count * 360.0
        b.add(name, GEAR, (radius, 0.0125, count, 0.016, 0.05, radius - 0.035, spokes, 0.013, 0.002), material, place, turn("z", own))
        b.add(f"{name}'s arbor", ROD, (0.045, 0.020), "polished brass", place - np.array([0.0, 0.0, 0.012]))
    colours = rng.permutation(["red lacquer", "blue lacquer", "ivory", "green lacquer"])
    corners = [(0.545, 152.0, 0.066), (0.525, 196.0, 0.066), (0.49, 172.0, 0.0)]
    for number, (distance, offset, half) in enumerate(corners[:2]):
        place = _polar(distance, start + sense * offset, FLOOR + half)
        axes = turn("z", float(rng.uniform(0.0, 90.0))) @ _upright(rng)
        b.add(f"die {number}", BOX, (half, half, half, 0.012), str(colours[number]), place, axes)
    between = 0.5 * (corners[0][1] + corners[1][1])
    axes = turn("z", start + sense * between + float(rng.uniform(15.0, 75.0))) @ _upright(rng)
    b.add("die 2", BOX, (0.062, 0.062, 0.062, 0.012), str(colours[2]), _polar(0.535, start + sense * between, FLOOR + 0.132 + 0.062), axes)
    b.add("mirror ball", SPHERE, (0.105,), "chrome", _polar(0.515, start + sense * 262.0, FLOOR + 0.105))
    b.add(
        "striped ball",
        SPHERE,
        (0.068,),
        "striped",
        _polar(0.56, start + sense * 300.0, FLOOR + 0.068),
        turn("x", float(rng.uniform(20.0, 70.0))),
    )
    b.add("lacquer ball", SPHERE, (0.058,), str(colours[3]).replace("lacquer", "ball"), _polar(0.55, start + sense * 55.0, FLOOR + 0.058))


def _upright(rng: np.random.Generator) -> Array:
    """One of a die's resting positions."""
    return turn("x", 90.0 * int(rng.integers(4))) @ turn("y", 90.0 * int(rng.integers(4)))


__all__ = ["Model", "build_model", "turn"]
