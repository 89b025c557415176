"""What the window shows and does, without the window: open fields, camera, look, comparison, crop. All of it is unit-tested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.points import Points
from ..errors import UserError
from ..render.types import Box, RenderSettings
from ..representations.field import Field
from .engine import Comparison, FieldSource, Layout, PhotoSource, Picture, Request, Source
from .entries import Entry, Photographs, unique_name
from .navigation import Navigator
from .shots import Look

Array = NDArray[np.float64]
Partner = Literal["field", "photograph", "all"]
"""What the active field is compared with: another one, its photograph, or, side by side, all others."""


@dataclass(frozen=True)
class Marching:
    """The renderer's settings a person may change; what is None stays as the field has it."""

    near: float | None = None
    """Normalised lengths, as :class:`RenderSettings`."""
    far: float | None = None
    steps: int | None = None
    termination: float | None = None

    def applied(self, settings: RenderSettings, crop: Box | None) -> RenderSettings:
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(settings, crop=crop, **given)


class Model:
    """State of one viewer. ``revision`` grows whenever the picture must be rendered anew."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.active = 0
        self.look = Look(background=default_background(entries[0]))
        self.marching = Marching()
        self.crop: Box | None = None
        self.selection: Box | None = None
        """The region that an edit would change."""
        self.layout: Layout = "single"
        self.partner: Partner = "field"
        self.partner_index = 1 if len(entries) > 1 else 0
        self.comparison = Comparison()
        self.use_preview = True
        self.time: float | None = 0.0 if entries[0].field.dynamic else None
        """Moment of a dynamic scene, in [0, 1]; None for fields without time."""
        self.revision = 0
        self.message = ""
        """A sentence for the status line: what was done, or why not."""
        self.navigator = Navigator(entries[0].overview, entries[0].cameras)
        self._photographs: dict[Path, Photographs] = {}
        self._points_data: Path | None = None
        """Whose sparse points are shown."""

    @property
    def entry(self) -> Entry:
        return self.entries[self.active]

    def touch(self) -> None:
        self.revision += 1

    def add(self, entry: Entry) -> int:
        """Open one more field and show it; returns its index."""
        entry.name = unique_name(entry.name, (e.name for e in self.entries))
        self.entries.append(entry)
        self.activate(len(self.entries) - 1)
        return self.active

    def remove(self, index: int) -> None:
        """Close a field; the last one stays."""
        if len(self.entries) == 1:
            self.message = "the last field stays open"
            return
        del self.entries[index]
        if len(self.entries) == 1 and self.partner != "photograph":
            self.layout = "single"
        self.partner_index = min(self.partner_index, len(self.entries) - 1)
        self.activate(min(self.active - (index < self.active), len(self.entries) - 1))

    def activate(self, index: int) -> None:
        """Show a field; the camera stays where it is."""
        self.active = index
        if self.entry.data != self._points_data:
            self.show_points(None)
        if self.partner_index == index and len(self.entries) > 1:
            self.partner_index = (index + 1) % len(self.entries)
        if any(entry.field.dynamic for entry in self.entries):
            self.time = self.time or 0.0
        else:
            self.time = None
        self.navigator.cameras = self.entry.cameras
        self.navigator.home = self.entry.overview
        self.navigator.leave_view()
        self.touch()

    def compare(self, layout: Layout, partner: Partner | None = None) -> None:
        """Choose how the active field is set against another one, or against its photograph."""
        partner = partner or self.partner
        if partner == "all" and layout != "side":
            partner = "field"
        if layout != "single" and partner != "photograph" and len(self.entries) < 2:
            self.message = "open a second field to compare with (File, Open), or compare with the photographs"
            layout = "single"
        self.layout, self.partner = layout, partner
        if layout != "single" and partner == "photograph" and self.navigator.view_index is None:
            self.navigator.step_view(0)
        self.touch()

    def show_points(self, points: Points | None) -> None:
        """Draw the sparse points of what the active field was trained on, or none."""
        self.look, self._points_data = replace(self.look, points=points), self.entry.data

    def set_time(self, time: float) -> None:
        """Show a dynamic scene as it is then, in [0, 1]."""
        self.time = min(max(time, 0.0), 1.0)
        self.touch()

    def set_crop(self, box: Box | None) -> None:
        """Show only what lies in a box; corners are put in order, and an edge keeps a thousandth of the scene's size."""
        self.crop = None if box is None else self._ordered(box)
        self.touch()

    def set_selection(self, box: Box | None) -> None:
        """Choose the region to edit; changes no picture. Corners as in :meth:`set_crop`."""
        self.selection = None if box is None else self._ordered(box)

    def _ordered(self, box: Box) -> Box:
        lower, upper = np.minimum(box[0], box[1]), np.maximum(box[0], box[1])
        least = 1e-3 * max(self.entry.field.space.size)
        return _triple(lower), _triple(np.maximum(upper, lower + least))

    def photographs(self) -> Photographs | None:
        """The pictures the active field was trained on, where it is known which."""
        data = self.entry.data
        if data is None:
            return None
        return self._photographs.setdefault(data, Photographs(data))

    def request(self, width: int, height: int) -> Request:
        """What to render for a view of this size.

        Raises:
            UserError: the photograph to compare with cannot be had.
        """
        sources: list[Source] = [self._source(self.entry)]
        if self.layout == "side" and self.partner == "all":
            sources += [self._source(entry) for entry in self._others()]
        elif self.layout != "single":
            sources.append(self._partner())
        return Request(replace(self.navigator.camera(width, height), time=self.time), tuple(sources), self.look.mode, self.layout)

    @property
    def compared(self) -> list[str]:
        """Names of what shares the view, from the left; the active field's alone where nothing does."""
        if self.layout == "single":
            return [self.entry.name]
        if self.layout == "side" and self.partner == "all":
            return [entry.name for entry in (self.entry, *self._others())]
        return [self.entry.name, "photograph" if self.partner == "photograph" else self.entries[self.partner_index].name]

    def _others(self) -> list[Entry]:
        return [entry for index, entry in enumerate(self.entries) if index != self.active]

    def _source(self, entry: Entry) -> FieldSource:
        settings = self.marching.applied(entry.settings, self.crop)
        return FieldSource(entry.field, settings, entry.preview if self.use_preview else None)

    def _partner(self) -> Source:
        if self.partner != "photograph":
            return self._source(self.entries[self.partner_index])
        pictures, view = self.photographs(), self.navigator.view_index
        if pictures is None:
            raise UserError(f"{self.entry.name} does not say what it was trained on; open it with --data DATA to see its photographs")
        if view is None:
            raise UserError("the view is at no training camera; step to one with [ or ] to see its photograph")
        return PhotoSource(pictures.at(view))

    def point_at(self, x: float, y: float, picture: Picture | None) -> Array | None:
        """The world point seen at a place (fractions of the view), from the depth of the newest picture; None where nothing is."""
        if picture is None or not picture.shots:
            return None
        shot = picture.shots[0]
        if picture.request.layout == "side":
            x = (x * len(picture.shots)) % 1.0
        height, width = shot.opacity.shape
        row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
        if shot.opacity[row, column] < 0.3 or not shot.depth[row, column] > 0.0:
            return None
        origin, direction = self.navigator.ray(x, y, width / height)
        return origin + float(shot.depth[row, column]) * direction


def default_background(entry: Entry) -> str:
    """What a field is judged over, as far as the viewer has it."""
    name = str(entry.field.metadata.get("background", "white"))
    return name if name in ("white", "black", "learned") else "white"


def fitted_box(field: Field) -> Box:
    """The smallest box around a field's occupied cells, its whole box where none is or it has no bounds."""
    space, found = field.space, field.occupancy.bounds()
    if found is None or space.unbounded:
        return space.lower, space.upper
    lower, upper = (space.from_unit(corner.to(field.device)).double().cpu().numpy() for corner in found)
    return _triple(lower), _triple(upper)


def middle_box(field: Field) -> Box:
    """The middle half of what :func:`fitted_box` finds, along every axis: a region to begin with."""
    lower, upper = (np.array(corner) for corner in fitted_box(field))
    quarter = 0.25 * (upper - lower)
    return _triple(lower + quarter), _triple(upper - quarter)


def _triple(values: Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
