"""The moving scene: a textured stage on which things bounce, crawl, swell, turn, appear and vanish, as a function of time."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from .layout import BOX, GEAR, SPHERE, TORUS, Array, Builder, Model, turn
from .world import Geometry

FLOOR = -0.72
"""Height of the stage."""
BACKDROP = (0.76, 0.79, 0.84)
"""Display colour behind the stage."""
STATIC = ("floor", "wall", "die", "post", "stone")


class Moment(Geometry):
    """The exact moving scene of a seed at one time in [0, 1]; see :class:`Geometry`."""

    def __init__(self, seed: int, time: float) -> None:
        self.seed, self.time = seed, time

    @cached_property
    def model(self) -> Model:  # type: ignore[override]
        return build_moment(self.seed, self.time)

    @property
    def moving(self) -> Array:
        """Which objects move, bool [K]."""
        return np.array([name.split()[0] not in STATIC for name in self.names])


def build_moment(seed: int, time: float) -> Model:
    """Where everything is at ``time`` in [0, 1]; a clip's end meets its beginning."""
    rng = np.random.default_rng([seed, 7])
    b = Builder()
    b.add("floor", BOX, (0.98, 0.98, 0.03, 0.004), "mahogany", np.array([0.0, 0.0, FLOOR - 0.03]), turn("z", 15.0))
    b.add("wall", BOX, (0.98, 0.02, 0.80, 0.004), "plaster", np.array([0.0, 0.92, 0.06]))
    for k, (x, y, colour) in enumerate(((-0.62, 0.35, "ivory"), (0.66, 0.10, "green lacquer"))):
        at = np.array([x, y, FLOOR + 0.13])
        b.add(f"die {k}", BOX, (0.13, 0.13, 0.13, 0.02), colour, at, turn("z", float(rng.uniform(0.0, 90.0))))
    b.add("post", BOX, (0.06, 0.06, 0.42, 0.02), "inlay", np.array([-0.25, 0.62, FLOOR + 0.42]), turn("z", 30.0))
    b.add("stone", SPHERE, (0.15,), "jade planet", np.array([0.30, 0.60, FLOOR + 0.15]))
    _movers(b, rng, time)
    b.profiles.append(np.zeros((1, 2)))
    return b.build()


def _movers(b: Builder, rng: np.random.Generator, time: float) -> None:
    turns = 2.0 * math.pi * time
    start = rng.uniform(0.0, 2.0 * math.pi, 4)
    # A ball that bounces four times while it crosses the stage and comes back.
    hop = abs(math.sin(2.0 * turns + start[0]))
    b.add("ball", SPHERE, (0.11,), "striped", np.array([0.62 * math.sin(turns), -0.25, FLOOR + 0.11 + 0.62 * hop]), turn("y", 720.0 * time))
    # A crawling chain whose links swing and swell.
    for k in range(5):
        phase = 2.0 * turns - 0.9 * k + start[1]
        at = np.array(
            [-0.42 + 0.17 * k + 0.1 * math.cos(turns), 0.18 + 0.16 * math.sin(phase), FLOOR + 0.10 + 0.05 * math.sin(1.7 * phase)]
        )
        b.add(f"worm {k}", SPHERE, (0.075 + 0.025 * math.sin(phase + 1.0),), "red ball" if k % 2 else "ivory ball", at)
    # A ring that breathes and tumbles.
    radius = 0.20 + 0.09 * math.sin(2.0 * turns + start[2])
    b.add(
        "ring",
        TORUS,
        (radius, 0.035 + 0.015 * math.cos(3.0 * turns)),
        "gold",
        np.array([-0.45, 0.30, 0.22]),
        turn("x", 360.0 * time + 20.0),
    )
    # A wheel that turns in place.
    module = 0.21 / 14
    numbers = (0.21, 0.018, 14, 0.03, 0.05, 0.16, 5, 0.02, 0.003)
    b.add("wheel", GEAR, numbers, "copper", np.array([0.48, 0.45, 0.30]), turn("x", 90.0) @ turn("z", 360.0 * time + module))
    # A cube that grows out of nothing, twice, at two places.
    for k, (centre, place) in enumerate(((0.28, (0.18, -0.42, FLOOR + 0.14)), (0.74, (-0.30, -0.45, 0.05)))):
        size = 0.13 * max(0.0, 1.0 - ((time - centre) / 0.16) ** 2)
        if size > 0.01:
            axes = turn("z", 200.0 * time) @ turn("x", 35.0)
            b.add(f"cube {k}", BOX, (size, size, size, 0.1 * size), "blue lacquer", np.array(place), axes)
