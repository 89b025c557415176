"""Train radiance fields on any machine, convert them, shrink them and fly through them.

The names below are the public interface; each is imported when it is first used, so
``import fieldmorph`` costs nothing and pulls in no heavy dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .datasets.procedural import make_scene as make_scene
    from .datasets.scene import Scene as Scene
    from .datasets.scene import load_scene as load_scene
    from .distill import DistillOptions as DistillOptions
    from .distill import distill_field as distill_field
    from .errors import UserError as UserError
    from .render.camera import Camera as Camera
    from .render.renderer import render_image as render_image
    from .render.renderer import render_rays as render_rays
    from .render.types import Rays as Rays
    from .render.types import Rendering as Rendering
    from .render.types import RenderSettings as RenderSettings
    from .representations.field import Field as Field
    from .representations.field_file import load_field as load_field
    from .representations.field_file import save_field as save_field
    from .representations.registry import build as build
    from .representations.registry import families as families
    from .representations.space import Space as Space
    from .training import TrainOptions as TrainOptions
    from .training import evaluate as evaluate
    from .training import train as train

_HOME = {
    "Camera": ".render.camera",
    "DistillOptions": ".distill",
    "Field": ".representations.field",
    "Rays": ".render.types",
    "RenderSettings": ".render.types",
    "Rendering": ".render.types",
    "Scene": ".datasets.scene",
    "Space": ".representations.space",
    "TrainOptions": ".training",
    "UserError": ".errors",
    "build": ".representations.registry",
    "distill_field": ".distill",
    "evaluate": ".training",
    "families": ".representations.registry",
    "load_field": ".representations.field_file",
    "load_scene": ".datasets.scene",
    "make_scene": ".datasets.procedural",
    "render_image": ".render.renderer",
    "render_rays": ".render.renderer",
    "save_field": ".representations.field_file",
    "train": ".training",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
