"""The side bar: one panel per file, in the order they are shown."""

from .camera import CameraPanel
from .compare import ComparePanel
from .compress import CompressPanel
from .convert import ConvertPanel
from .crop import CropPanel
from .display import DisplayPanel
from .edit import EditPanel
from .panel import Panel
from .path import PathPanel
from .scene import ScenePanel
from .time import TimePanel
from .training import TrainingPanel

PANELS: tuple[type[Panel], ...] = (
    TrainingPanel,
    ScenePanel,
    TimePanel,
    DisplayPanel,
    CameraPanel,
    ComparePanel,
    CropPanel,
    EditPanel,
    PathPanel,
    ConvertPanel,
    CompressPanel,
)

__all__ = ["PANELS", "Panel", "TrainingPanel"]
