"""The scene formats this package reads, in the order they are tried.

A new format is one module with a :class:`Format` and one line in :data:`FORMATS`; its test
needs a fixture with a known point of space that lands on a known pixel.
"""

from __future__ import annotations

from . import blender, plenoptic, transforms_json
from .format import Format

FORMATS: tuple[Format, ...] = (blender.FORMAT, transforms_json.FORMAT, plenoptic.FORMAT)
