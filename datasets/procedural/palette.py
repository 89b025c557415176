"""What things are made of. Colours are linear RGB; for metals they are the reflectance at normal incidence."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN, WOOD, INLAY, GRADUATED, ZODIAC, BANDED, DIE, STRIPES, BRUSHED, MARBLE, RINGS = range(11)
"""Textures of shading.py."""


@dataclass(frozen=True)
class Surface:
    color: tuple[float, float, float]
    metallic: float = 0.0
    roughness: float = 0.3
    texture: int = PLAIN
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The texture's other colour."""
    detail: float = 0.0
    """Frequency or count, as the texture has it."""

    def row(self) -> list[float]:
        return [*self.color, self.metallic, self.roughness, float(self.texture), *self.second, self.detail]


BRASS = (0.82, 0.51, 0.15)

MATERIALS: dict[str, Surface] = {
    "mahogany": Surface((0.085, 0.020, 0.008), 0.0, 0.20, WOOD, (0.26, 0.072, 0.022), 1.0),
    "brass": Surface(BRASS, 1.0, 0.24, BRUSHED, (0.64, 0.36, 0.085), 60.0),
    "polished brass": Surface((0.88, 0.57, 0.18), 1.0, 0.10),
    "gold": Surface((1.00, 0.62, 0.16), 1.0, 0.05),
    "copper": Surface((0.86, 0.34, 0.19), 1.0, 0.20, BRUSHED, (0.68, 0.23, 0.11), 60.0),
    "steel": Surface((0.56, 0.57, 0.60), 1.0, 0.16, BRUSHED, (0.44, 0.45, 0.48), 60.0),
    "chrome": Surface((0.86, 0.87, 0.88), 1.0, 0.02),
    "inlay": Surface((0.60, 0.54, 0.44), 0.0, 0.14, INLAY, (0.028, 0.075, 0.055), 28.0),
    "horizon": Surface((0.62, 0.56, 0.44), 0.0, 0.16, GRADUATED, (0.015, 0.030, 0.085), 72.0),
    "meridian": Surface(BRASS, 1.0, 0.18, GRADUATED, (0.10, 0.055, 0.02), 96.0),
    "equator": Surface((0.64, 0.58, 0.46), 0.0, 0.2, GRADUATED, (0.16, 0.01, 0.01), 60.0),
    "ecliptic": Surface((0.02, 0.05, 0.22), 0.0, 0.14, ZODIAC, (0.82, 0.51, 0.15), 12.0),
    "jade planet": Surface((0.04, 0.30, 0.16), 0.0, 0.08, MARBLE, (0.30, 0.62, 0.42), 14.0),
    "banded planet": Surface((0.74, 0.52, 0.32), 0.0, 0.22, BANDED, (0.36, 0.13, 0.06), 16.0),
    "ringed planet": Surface((0.76, 0.62, 0.36), 0.0, 0.20, BANDED, (0.55, 0.38, 0.18), 9.0),
    "ruby planet": Surface((0.46, 0.012, 0.022), 0.0, 0.06),
    "ring": Surface((0.74, 0.62, 0.42), 0.0, 0.30, RINGS, (0.24, 0.16, 0.09), 150.0),
    "red lacquer": Surface((0.50, 0.016, 0.012), 0.0, 0.09, DIE, (0.86, 0.84, 0.78)),
    "blue lacquer": Surface((0.012, 0.060, 0.34), 0.0, 0.09, DIE, (0.86, 0.84, 0.78)),
    "green lacquer": Surface((0.010, 0.17, 0.060), 0.0, 0.09, DIE, (0.86, 0.84, 0.78)),
    "ivory": Surface((0.64, 0.55, 0.38), 0.0, 0.16, DIE, (0.02, 0.015, 0.012)),
    "plaster": Surface((0.66, 0.58, 0.44), 0.0, 0.30, MARBLE, (0.10, 0.16, 0.30), 3.0),
    "red ball": Surface((0.50, 0.016, 0.012), 0.0, 0.06),
    "blue ball": Surface((0.012, 0.060, 0.34), 0.0, 0.06),
    "green ball": Surface((0.010, 0.17, 0.060), 0.0, 0.06),
    "ivory ball": Surface((0.74, 0.66, 0.50), 0.0, 0.10),
    "striped": Surface((0.80, 0.76, 0.68), 0.0, 0.06, STRIPES, (0.70, 0.13, 0.015), 7.0),
}
