"""Pixels of synchronised videos as batches: a ray comes with its colours at all times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..datasets.images import allocate
from ..datasets.scene import Scene
from ..errors import UserError
from ..render.camera import Camera, CameraSet
from ..render.types import Rays
from .batches import Batch

BLOCK = 64 << 20
"""Bytes of decoded frames held while the pixels are sorted."""
BLUR = 5.0 / 1014.0
"""Deviation of the Gaussian over the temporal deviations, in picture heights (MixVoxels: 31 x 31 pixels of 1014 rows)."""
GAMMA = 0.02
"""Temporal deviation at which a ray is drawn half as often as one that changes a lot (MixVoxels)."""
FLOOR = 0.2
"""Weight of rays that cross moving cells and do not change: they say where nothing is."""


def views_of(scene: Scene) -> list[list[int]]:
    """The training images of each camera of a synchronised clip, in order of time.

    Raises:
        UserError: the scene stands still, its cameras saw different moments, or each moment is seen by one camera alone.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for index in scene.split["train"]:
        camera = scene.cameras[index]
        if camera.time is None:
            raise UserError(f"{scene.root}: the scene stands still; a mixed field is for moving ones, choose another --field")
        groups.setdefault((camera.camera_to_world.tobytes(), camera.fx, camera.width, camera.height), []).append(index)
    views = [sorted(group, key=lambda i: scene.cameras[i].time or 0.0) for group in groups.values()]
    times = {tuple(scene.cameras[i].time for i in view) for view in views}
    frames = max(len(view) for view in views)
    if frames < 2 or len(views) < 2:
        raise UserError(
            f"{scene.root}: cameras held out aside, each moment is seen from one place only; a mixed field needs several cameras "
            "that watch together, choose another --field"
        )
    if len(times) > 1:
        raise UserError(f"{scene.root}: the cameras do not share the times of their frames; a mixed field needs synchronised videos")
    return views


class VideoBatches:
    """Pixels of F frames of V cameras, kept camera by camera and pixel by pixel, so that a ray's colours at all times lie together.

    They stay uint8, memory-mapped where they are many; frames are decoded in blocks of bounded memory.
    """

    def __init__(self, scene: Scene, device: torch.device) -> None:
        views = views_of(scene)
        if scene.has_alpha or scene.images.has_masks:
            raise UserError(f"{scene.root}: a mixed field takes opaque videos without masks")
        self.device, self.frames = device, len(views[0])
        cameras = [scene.cameras[view[0]] for view in views]
        self.cameras = CameraSet([_untimed(camera) for camera in cameras]).to(device)
        self.widths = np.array([c.width for c in cameras], np.int64)
        sizes = np.array([c.width * c.height for c in cameras], np.int64)
        self.first = np.concatenate([[0], np.cumsum(sizes)])
        self.pixels = allocate((int(self.first[-1]), 3 * self.frames), scene.images.memory_cap)
        self.mean = torch.empty(int(self.first[-1]), 3)
        """[P, 3] temporal mean, what the static branch learns."""
        self.deviation = torch.empty(int(self.first[-1]))
        """[P] temporal standard deviation, mean over channels, blurred."""
        score = np.zeros(self.frames)
        for v, view in enumerate(views):
            score += self._load(scene, v, view, cameras[v]) / len(views)
        self.score = torch.from_numpy(score / max(float(score.max()), 1e-9)).float()
        """[F] how far each frame is from the mean, relative to the farthest."""
        self.crossing = torch.zeros(0, dtype=torch.int64)
        """Pixels whose rays cross moving cells."""
        self._cumulated = torch.zeros(0, dtype=torch.float64)

    @property
    def count(self) -> int:
        return self.mean.shape[0]

    def _load(self, scene: Scene, v: int, view: Sequence[int], camera: Camera) -> np.ndarray:
        """Sort one camera's frames into ``pixels``; the mean distance of each from the temporal mean."""
        begin, end = int(self.first[v]), int(self.first[v + 1])
        per_block = max(1, BLOCK // (3 * (end - begin)))
        total, squares = np.zeros((end - begin, 3)), np.zeros((end - begin, 3))
        for f in range(0, self.frames, per_block):
            block = np.stack([scene.images.load(i).reshape(-1, 3) for i in view[f : f + per_block]], 1)
            self.pixels[begin:end, 3 * f : 3 * (f + block.shape[1])] = block.reshape(end - begin, -1)
            for g in range(block.shape[1]):
                frame = block[:, g].astype(np.float64) / 255.0
                total += frame
                squares += frame * frame
        mean = total / self.frames
        variance = (squares / self.frames - mean**2).clip(0.0)
        self.mean[begin:end] = torch.from_numpy(mean.astype(np.float32))
        deviation = torch.from_numpy(np.sqrt(variance).mean(1).astype(np.float32)).view(camera.height, camera.width)
        self.deviation[begin:end] = blurred(deviation, BLUR * camera.height).reshape(-1)
        some = slice(0, end - begin, max(1, (end - begin) // 4096))
        return np.asarray(np.abs(self.pixels[begin:end][some].reshape(-1, self.frames, 3) / 255.0 - mean[some, None]).mean((0, 2)))

    def rays(self, pick: np.ndarray) -> Rays:
        """Rays of pixels, by their index among all."""
        camera = np.searchsorted(self.first, pick, side="right") - 1
        y, x = np.divmod(pick - self.first[camera], self.widths[camera])
        xy = torch.from_numpy(np.stack([x, y], 1).astype(np.float32) + 0.5)
        return self.cameras.rays(torch.from_numpy(camera).to(self.device), xy.to(self.device))

    def next(self, rays: int, generator: torch.Generator) -> Batch:
        """Uniformly random pixels with their temporal means."""
        pick = torch.randint(self.count, (rays,), generator=generator)
        return Batch(self.rays(pick.numpy()), self.mean[pick].to(self.device), None)

    def variation(self, rays: int, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """Uniformly random pixels with their temporal deviations [N]."""
        pick = torch.randint(self.count, (rays,), generator=generator)
        return self.rays(pick.numpy()), self.deviation[pick].to(self.device)

    def changing(self, deviation: float) -> list[Tensor]:
        """For every camera, which pixels deviate more than that over time, bool [H, W]."""
        parts = torch.split(self.deviation > deviation, np.diff(self.first).tolist())
        return [part.view(camera.height, camera.width) for part, camera in zip(parts, self.cameras.cameras, strict=True)]

    def cross(self, crossing: Tensor) -> None:
        """Tell which pixels' rays cross moving cells, bool [P]; from then on :meth:`moving` draws among them."""
        self.crossing = crossing.nonzero()[:, 0]
        squares = self.deviation[self.crossing].double().square()
        self._cumulated = (FLOOR + squares / (squares + GAMMA**2)).cumsum(0)

    def moving(self, rays: int, frames: Tensor, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """Pixels whose rays cross moving cells, those that change more often; rgb [N, 3, F] at the frames [F]."""
        place = torch.rand(rays, generator=generator, dtype=torch.float64) * self._cumulated[-1]
        pick = self.crossing[torch.searchsorted(self._cumulated, place).clamp(max=len(self.crossing) - 1)].numpy()
        values = torch.from_numpy(np.ascontiguousarray(self.pixels[pick])).view(rays, self.frames, 3)
        return self.rays(pick), (values.index_select(1, frames).transpose(1, 2).float() / 255.0).to(self.device)

    def choose_frames(self, count: int, temperature: float, generator: torch.Generator) -> Tensor:
        """``count`` frames [F] int64 without repetition, rather those far from the mean the lower the temperature; all where they suffice.

        MixVoxels draws frames for every ray; here a batch shares them, so that one product with their latents answers for all.
        """
        if count >= self.frames:
            return torch.arange(self.frames)
        noise = torch.rand(self.frames, generator=generator).clamp(1e-9, 1.0 - 1e-9)
        keys = self.score / temperature - torch.log(-torch.log(noise))
        return keys.topk(count).indices.sort().values

    def state(self) -> dict[str, Tensor]:
        crossing = torch.zeros(self.count, dtype=torch.uint8)
        crossing[self.crossing] = 1
        return {"crossing": crossing}

    def load_state(self, state: dict[str, Tensor]) -> None:
        if len(state["crossing"]) != self.count:
            raise UserError("the checkpoint belongs to another clip; start again with --overwrite")
        self.cross(state["crossing"] > 0)


def _untimed(camera: Camera) -> Camera:
    return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.camera_to_world, camera.distortion)


def blurred(values: Tensor, sigma: float) -> Tensor:
    """A picture [H, W] under a Gaussian of ``sigma`` pixels, mirrored at its edges."""
    reach = min(max(1, round(3.0 * sigma)), min(values.shape) - 1)
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-3)).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    wide = torch.nn.functional.pad(values[None, None], (reach,) * 4, mode="reflect")
    return torch.nn.functional.conv2d(torch.nn.functional.conv2d(wide, kernel), kernel.transpose(2, 3))[0, 0]
