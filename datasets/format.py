"""What a scene format is to :func:`fieldmorph.datasets.scene.load_scene`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .scene import Scene


@dataclass(frozen=True)
class Format:
    """A reader: ``sniff(path)`` is cheap and never raises; ``read(path, holdout)`` raises UserError."""

    name: str
    signature: str
    """How one recognises it, for people."""
    sniff: Callable[[Path], bool]
    read: Callable[[Path, int], Scene]
