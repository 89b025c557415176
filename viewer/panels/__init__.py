"""The side bar: one panel per file, in the order they are shown."""

from .camera import CameraPanel
from .compare import ComparePanel
from .crop import CropPanel
from .display import DisplayPanel
from .edit import EditPanel
from .panel import Panel
from .path import PathPanel
from .scene import ScenePanel
from .training import TrainingPanel

PANELS: tuple[type[Panel], ...] = (TrainingPanel, ScenePanel, DisplayPanel, CameraPanel, ComparePanel, CropPanel, EditPanel, PathPanel)

__all__ = ["PANELS", "Panel", "TrainingPanel"]
