"""The fields that are open: what they are called, where they came from, what is known about them. No GUI."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import kernels, progress
from ..datasets.scene import Scene, load_scene
from ..errors import UserError
from ..render.camera import Camera
from ..render.overview import Overview, overview, recorded_cameras
from ..render.renderer import which_renderer
from ..render.types import RenderSettings
from ..representations.field import Field
from ..training import load_run_or_field, read_config
from ..training.evaluation import eval_settings
from .moments import moment


@dataclass(eq=False)
class Entry:
    """One open field."""

    name: str
    field: Field
    path: Path | None = None
    """Field file, or None for a field that only exists here."""
    data: Path | None = None
    """The dataset it was trained on, where known."""
    preview: Field | None = None
    """A quick stand-in while the view moves."""
    preview_psnr: float | None = None
    cameras: list[Camera] = field(default_factory=list)
    unsaved: bool = False

    @property
    def settings(self) -> RenderSettings:
        """How the field is rendered where the viewer's own settings say nothing else."""
        return eval_settings(self.field)

    @property
    def overview(self) -> Overview:
        return overview(self.cameras, self.field.space)

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of what the scene panel shows."""
        space, occupancy = self.field.space, self.field.occupancy
        size = " × ".join(f"{side:.3g}" for side in space.size)
        rows = [
            ("Family", self.field.family),
            ("Parameters", f"{self.field.numbers:,}"),
            ("File", progress.format_bytes(self.path.stat().st_size) if self.path and self.path.is_file() else "not saved"),
            ("Box", f"{size}{', unbounded' if space.unbounded else ''}"),
            ("Occupancy", f"{occupancy.resolution}³, {100.0 * occupancy.occupied_fraction:.1f} % full"),
            ("Cameras", str(len(self.cameras))),
            ("Kernels", kernel_name(self.field)),
            *[(f"  not {name}", reason) for name, reason in kernels_not_used(self.field)],
            ("Renderer", which_renderer(moment(self.field, 0.0))),
        ]
        history = self.field.metadata.get("history")
        if isinstance(history, list) and history:
            rows.append(("History", " → ".join(str(item) for item in history)))
        return rows


def kernel_name(field: Field) -> str:
    """Which implementation of the operations serves the field, e.g. "cpu (Numba), 2 threads of 2"."""
    line = kernels.explain(field.device)[0].removeprefix("kernels: ")
    return line.split(", cache in")[0]


def kernels_not_used(field: Field) -> list[tuple[str, str]]:
    """Each better implementation of the operations, and why it does not serve the field."""
    lines = (line.strip().partition(": ") for line in kernels.explain(field.device)[1:])
    return [(name, reason.removeprefix("not used, ")) for name, _, reason in lines]


def open_entry(path: Path, device: str = "cpu", data: Path | None = None) -> Entry:
    """Open a field file or run folder.

    Raises:
        UserError: it is neither, or damaged.
    """
    field = load_run_or_field(path, device=device)
    file = path / "field.field" if path.is_dir() else path
    run = path if path.is_dir() else path.absolute().parent
    if data is None and (run / "config.yaml").exists():
        data = read_config(run)[0]
    name = path.absolute().name if path.is_dir() else path.stem if path.stem != "field" else path.absolute().parent.name
    return Entry(name, field, file if file.is_file() else None, data, cameras=recorded_cameras(field))


def unique_name(name: str, taken: Iterable[str]) -> str:
    """``name``, or "name (2)" and so on where it is taken."""
    used, number, candidate = set(taken), 2, name
    while candidate in used:
        candidate, number = f"{name} ({number})", number + 1
    return candidate


class Photographs:
    """The pictures behind a field's training cameras, decoded when they are looked at."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._scene: Scene | None = None
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    @property
    def scene(self) -> Scene:
        """Raises UserError: the dataset has moved or is damaged."""
        if self._scene is None:
            self._scene = load_scene(self.data)
        return self._scene

    def at(self, view: int) -> NDArray[np.uint8]:
        """The photograph [H, W, 3 or 4] taken by the ``view``-th training camera.

        Raises:
            UserError: there is none.
        """
        if self._last is not None and self._last[0] == view:
            return self._last[1]
        training = self.scene.split["train"]
        if not 0 <= view < len(training):
            raise UserError(f"{self.data} has no training image {view + 1}; it is another dataset than the field's")
        image = np.asarray(self.scene.images.load(training[view]))
        self._last = (view, image)
        return image
