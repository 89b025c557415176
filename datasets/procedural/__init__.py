"""The project's own scene: an armillary sphere on a wooden stand, ray-traced with exact cameras and exact geometry."""

from __future__ import annotations

from .make import make_scene
from .video import make_video_scene
from .world import Geometry, Trace, geometry

__all__ = ["Geometry", "Trace", "geometry", "make_scene", "make_video_scene"]
