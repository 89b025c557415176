"""``fieldmorph render``: pictures and films of a field."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from .. import progress
from ..errors import UserError
from .eval import recorded_data
from .options import Compute, Talk, WarmUp, claim_folder, open_scene, parse_size, start_folder, value

if TYPE_CHECKING:
    from ..render.images import Kind
    from ..render.paths import CameraPath
    from ..render.types import Rendering, RenderSettings
    from ..representations.field import Field

SPLITS = ("train", "val", "test")
KINDS = ("orbit", "spiral", "ellipse", "along")
SECONDS = 6.0
"""Length of a film where --frames does not say."""
FRAMES = ("[0-9][0-9][0-9][0-9][0-9].png", "rgb", "rgba", "depth", "normals", "opacity")
"""What a folder of frames holds, and --overwrite removes."""


@dataclass(frozen=True, kw_only=True)
class Render(Compute, Talk):
    """Render pictures or a film along a camera path.

    A name that ends in .mp4 becomes a film, any other a folder of PNG pictures. Frames already complete
    in the folder are kept with --resume.
    """

    field: Annotated[Positional[Path], value("RUN_OR_FIELD")]
    """Run folder or field file."""
    out: Annotated[Path, value("FOLDER_OR_MP4")]
    """Where to write."""
    path: Annotated[str, value("PATH", "auto")] = "auto"
    """orbit, spiral, ellipse, along (the training cameras), train, val, test (a dataset's own cameras), or a camera path
    file (JSON of ours, of nerfstudio or of instant-ngp); auto: orbit where the cameras surround the scene, else spiral."""
    size: Annotated[str | None, value("WxH", "that of the cameras")] = None
    """Size of the pictures; the vertical field of view stays."""
    frames: Annotated[int | None, value("N", "6 seconds of them")] = None
    """Number of pictures of an orbit, spiral, ellipse or along."""
    fps: Annotated[float | None, value("F", "30, or the file's")] = None
    """Frames per second of the film."""
    layer: Annotated[tuple[Literal["rgb", "rgba", "depth", "normals", "opacity"], ...], value("LAYER", "rgb"), UseAppendAction] = ()
    """rgb, rgba, depth, normals or opacity. Several make a folder or film each."""
    background: Annotated[Literal["white", "black", "learned"] | None, value("COLOUR", "the field's")] = None
    """What shows behind the scene: white, black or learned."""
    time: Annotated[str | None, value("T | FROM:TO", "0:1, or the path's own")] = None
    """Moving fields: the moment that all pictures show (bullet time), or the first and the last one's; from 0 to 1."""
    part: Annotated[Literal["all", "static", "dynamic", "background"], value("PART", "all")] = "all"
    """Moving fields: only what stands still, only what moves, or the static branch alone (the temporal mean)."""
    data: Annotated[Path | None, value("DATA", "what it was trained on")] = None
    """Dataset whose cameras --path train, val or test takes."""
    resume: bool = False
    """Keep the frames that the folder already holds; only for the same field, path and size."""
    overwrite: bool = False
    """Replace the frames or the film that --out holds."""

    def run(self) -> int:
        self.talk()
        size = parse_size(self.size) if self.size else None
        if self.frames is not None and not 1 <= self.frames <= 100_000:
            raise UserError(f"--frames {self.frames}: give 1 to 100000")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UserError(f"--fps {self.fps}: give more than 0 and at most 1000")
        film = self._claim()
        device = self.choose_device()
        from ..training import load_run_or_field
        from ..training.evaluation import eval_settings

        field = load_run_or_field(self.field, device=str(device))
        warm_up = WarmUp(field, device)
        path = self._path(field, size)
        field, path = self._moments(field, path)
        for note in path.notes:
            progress.warn(note)
        layers = self._layers()
        settings = eval_settings(field)
        if self.background:
            settings = replace(settings, background=self.background)
        start_folder(self.out.absolute().parent if film else self.out, FRAMES if self.overwrite and not film else ())
        first = path.cameras[0]
        progress.say(
            f"rendering {len(path)} pictures of {first.width}x{first.height} of {self.field} ({field.family}): {', '.join(layers)}"
        )
        progress.say(f"memory: {progress.memory_budget(memory_parts(field, path))}")
        warm_up.wait()
        if film:
            render_film(field, path, self.out, settings, layers)
        else:
            render_frames(field, path, self.out, settings, layers, resume=self.resume)
        return 0

    def _moments(self, field: Field, path: CameraPath) -> tuple[Field, CameraPath]:
        """The part of a moving field that is asked for, and its path with a time for every picture."""
        from ..representations.mixed import MixedField

        if not isinstance(field, MixedField):
            if self.time is not None or self.part != "all":
                raise UserError(
                    f"--{'part' if self.time is None else 'time'} is for fields that move, and a {field.family} field stands still"
                )
            return field, path
        whole = field if self.part == "all" else field.part(self.part)
        if self.time is None and all(camera.time is not None for camera in path.cameras) and self.path not in ("auto", *KINDS):
            return whole, path
        first, last = parse_times(self.time or "0:1")
        steps = max(1, len(path) - 1)
        cameras = tuple(replace(camera, time=first + (last - first) * i / steps) for i, camera in enumerate(path.cameras))
        return whole, replace(path, cameras=cameras)

    def _layers(self) -> tuple[Kind, ...]:
        return tuple(dict.fromkeys(self.layer)) or ("rgb",)

    def _claim(self) -> bool:
        """Whether --out is a film; refuses what must not be written to."""
        suffix = self.out.suffix.lower()
        if suffix in (".avi", ".mov", ".mkv", ".webm", ".gif", ".png", ".jpg", ".jpeg"):
            raise UserError(f"--out {self.out}: name a film that ends in .mp4, or a folder for PNG pictures")
        if suffix != ".mp4" or self.out.is_dir():
            claim_folder(self.out, overwrite=self.overwrite, resume=self.resume)
            return False
        if self.resume:
            raise UserError("--resume continues a folder of pictures; a film is written anew, with --overwrite where it exists")
        for file in film_files(self.out, self._layers()):
            if file.exists() and not self.overwrite:
                raise UserError(f"--out {file} exists; name another file, or replace it with --overwrite")
        claim_folder(self.out.absolute().parent, overwrite=True)
        return True

    def _path(self, field: Field, size: tuple[int, int] | None) -> CameraPath:
        from ..render.camera import Camera
        from ..render.path_files import read_path
        from ..render.paths import CameraPath, camera_path

        fps = self.fps or 30.0
        if self.path in SPLITS:
            scene = open_scene(self.data or recorded_data(self.field))
            indices = scene.split.get(self.path, [])
            if not indices:
                raise UserError(f"{scene.root}: the dataset has no {self.path} images; choose another --path")
            path = CameraPath(tuple(scene.cameras[i] for i in indices), fps)
        elif self.path.lower().endswith(".json") or Path(self.path).is_file():
            path = read_path(self.path, size=size)
            path = replace(path, fps=self.fps or path.fps)
        else:
            cameras = [Camera.from_dict(c) for c in field.metadata.get("cameras") or []]
            seconds = self.frames / fps if self.frames else SECONDS
            return camera_path(self.path, cameras, field.space, seconds=seconds, fps=fps, size=size)
        if self.frames is not None:
            path = path.fraction(0, self.frames)
        return path.fitted(*size) if size else path


def parse_times(text: str) -> tuple[float, float]:
    """``T`` or ``FROM:TO`` to two moments in [0, 1].

    Raises:
        UserError: it is neither.
    """
    parts = text.split(":")
    try:
        first, last = float(parts[0]), float(parts[-1])
    except ValueError:
        first = last = -1.0
    if len(parts) > 2 or not (0.0 <= first <= 1.0 and 0.0 <= last <= 1.0):
        raise UserError(f"--time {text}: write one moment or FROM:TO, from 0 to 1, for example 0.5 or 0:1")
    return first, last


def memory_parts(field: Field, path: CameraPath) -> dict[str, float]:
    """Bytes rendering asks for: the field, and one picture's rays and results."""
    held = sum(t.numel() * t.element_size() for t in (*field.parameters(), *field.buffers()))
    pixels = max(c.width * c.height for c in path.cameras)
    return {"field": float(held), "picture": pixels * 160.0}


def depths_of(field: Field, path: CameraPath, settings: RenderSettings) -> tuple[float, float]:
    """One range of distances for all frames, from small pictures of a few of them."""
    from ..render.images import depth_range
    from ..render.renderer import render_image

    ranges = []
    for camera in path.cameras[:: max(1, len(path) // 6)]:
        shrink = 64 / max(camera.width, camera.height, 64)
        small = camera.resized(max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))
        ranges.append(depth_range(render_image(field, small, settings)))
    return min(near for near, _ in ranges), max(far for _, far in ranges)


def painter(field: Field, path: CameraPath, settings: RenderSettings, layers: Sequence[Kind]) -> Callable[[Any], dict[Kind, Any]]:
    """A function from a camera to the pictures of it, by layer."""
    from ..render.images import picture
    from ..render.renderer import background_color, render_image

    depths = depths_of(field, path, settings) if "depth" in layers else None
    behind = background_color(field, settings.background) if "rgba" in layers else None
    settings = replace(settings, normals="normals" in layers, background="none" if "rgba" in layers else settings.background)

    def over(rendering: Rendering) -> Rendering:
        if behind is None:
            return rendering
        return replace(rendering, rgb=rendering.rgb + (1.0 - rendering.opacity[..., None]) * behind)

    def paint(camera: Any) -> dict[Kind, Any]:
        rendering = render_image(field, camera, settings)
        return {layer: picture(over(rendering) if layer == "rgb" else rendering, layer, depths) for layer in layers}

    return paint


def render_frames(
    field: Field, path: CameraPath, out: Path, settings: RenderSettings, layers: Sequence[Kind], *, resume: bool = False
) -> list[Path]:
    """PNG pictures 00000.png, …, in a folder per layer where there are several. Returns the files of the first layer."""
    from ..render.images import is_complete_png, save_image

    folders = {layer: out / layer if len(layers) > 1 else out for layer in layers}
    for folder in folders.values():
        start_folder(folder)
    paint, start, kept = painter(field, path, settings, layers), time.perf_counter(), 0
    with progress.Bar("render", len(path), "pictures") as bar:
        for i, camera in enumerate(path.cameras):
            files = {layer: folder / f"{i:05d}.png" for layer, folder in folders.items()}
            if resume and all(is_complete_png(file, camera.width, camera.height) for file in files.values()):
                kept += 1
            else:
                for layer, image in paint(camera).items():
                    save_image(files[layer], image)
            bar.update(i + 1)
    made = len(path) - kept
    each = f", {(time.perf_counter() - start) / made:.2f} s each" if made else ""
    progress.say(f"wrote {made} pictures to {out}{f', kept {kept}' if kept else ''}{each}")
    return [folders[layers[0]] / f"{i:05d}.png" for i in range(len(path))]


def film_files(out: Path, layers: Sequence[Kind]) -> list[Path]:
    """The film's file, or, of several layers, NAME-layer.mp4 for each."""
    return [out.with_name(f"{out.stem}-{layer}{out.suffix}") if len(layers) > 1 else out for layer in layers]


def render_film(field: Field, path: CameraPath, out: Path, settings: RenderSettings, layers: Sequence[Kind]) -> list[Path]:
    """An mp4 per layer. Returns the files."""
    from ..render.video import open_video

    files = film_files(out, layers)
    paint, start = painter(field, path, settings, layers), time.perf_counter()
    with contextlib.ExitStack() as stack, progress.Bar("render", len(path), "frames") as bar:
        writers = {layer: stack.enter_context(open_video(file, path.fps)) for layer, file in zip(layers, files, strict=True)}
        for i, camera in enumerate(path.cameras):
            for layer, image in paint(camera).items():
                writers[layer](image)
            bar.update(i + 1)
    spent = (time.perf_counter() - start) / len(path)
    for file in files:
        progress.say(f"wrote {file} ({progress.format_bytes(file.stat().st_size)}, {len(path)} frames, {spent:.2f} s each)")
    return files
