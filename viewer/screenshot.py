"""Pictures of what the viewer shows, at any size, without a window. No GUI."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ..kernels.cancel import CancelFlag
from ..render.images import save_image
from .engine import Comparison, Picture, Request, compose, render_shots
from .model import Model
from .scheduler import Task
from .shots import Look


def render_request(
    request: Request, look: Look, comparison: Comparison, samples: int = 16,
    progress: Callable[[float], None] = lambda share: None, cancel: CancelFlag | None = None,
) -> Picture:  # fmt: skip
    """The finished picture of a request: full field, full size, all anti-aliasing samples.

    Raises:
        Cancelled: ``cancel`` was set meanwhile.
    """
    shots = render_shots(request, Task(False, 1.0), cancel)
    for sample in range(1, samples):
        progress(sample / samples)
        more = render_shots(request, Task(False, 1.0, sample), cancel)
        shots = tuple(old.with_sample(new) for old, new in zip(shots, more, strict=True))
    return compose(request, shots, look, comparison, Task(False, 1.0, samples - 1), math.nan)


def save_screenshot(
    model: Model, path: Path, width: int, height: int, samples: int = 16, progress: Callable[[float], None] = lambda share: None
) -> None:
    """Write what the model's view shows as a PNG.

    Raises:
        UserError: the file cannot be written, or there is no photograph to compare with.
    """
    picture = render_request(model.request(width, height), model.look, model.comparison, samples, progress)
    save_image(path, picture.rgba[..., :3])
