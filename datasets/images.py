"""Photographs on disk as 8-bit arrays: probing, decoding, memory mapping, masks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import UserError

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` from the calling thread."""

MEMORY_CAP = 2 << 30
"""Bytes of pixels kept in memory; a larger set goes to an unnamed file on disk and is mapped."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tga", ".webp", ".tif", ".tiff")
"""Tried in this order for a file name without a known extension; upper case too."""


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says."""

    width: int
    height: int
    alpha: bool


def find_image(path: Path) -> Path | None:
    """The file ``path`` means: itself, or with an image extension appended (Blender omits it), or None."""
    if path.is_file():
        return path
    for extension in EXTENSIONS:
        for candidate in (extension, extension.upper()):
            probe = path.with_name(path.name + candidate)
            if probe.is_file():
                return probe
    return None


def probe_image(path: Path) -> ImageFacts:
    """Size and kind, from the header alone.

    Raises:
        UserError: not an image, or unreadable.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            return ImageFacts(width, height, _has_alpha(image))
    except Exception as error:
        raise _unreadable(path, error) from error


def decode_image(path: Path, channels: int) -> Pixels:
    """Decoded pixels, uint8 [H, W, channels]; 3 drops alpha, 4 adds an opaque one, 1 is grey.

    Sixteen-bit pictures keep their upper eight bits. EXIF rotation is not applied, as in every
    program that writes poses: the poses belong to the pixels as stored.

    Raises:
        UserError: corrupt or truncated file.
    """
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I"):
                grey = np.asarray(image).astype(np.int64)
                image = Image.fromarray((grey >> 8 if grey.max(initial=0) > 255 else grey).clip(0, 255).astype(np.uint8))
            pixels = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    except Exception as error:
        raise _unreadable(path, error) from error
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)


def _has_alpha(image: ImageFile.ImageFile | Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such image; restore the file or remove its frame")
    reason = "not an image this program reads" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
    return UserError(f"{path}: the image cannot be read ({reason.rstrip('.')}); replace the file or remove its frame")


class Images:
    """The pixels of a scene's cameras, decoded when asked for; image i belongs to camera i.

    ``sizes`` are (width, height). ``channels`` is 4 where pictures carry alpha (straight), else 3.
    ``masks`` hold one file or None per image; black (0) in a mask means: ignore this pixel.
    ``transparent`` names a colour, "white" or "black", that stands for alpha 0 (instant-ngp's ``white_transparent``).
    """

    def __init__(
        self,
        files: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
        channels: int,
        *,
        masks: Sequence[Sequence[Path]] | None = None,
        inverted_masks: Sequence[Sequence[Path]] | None = None,
        transparent: str | None = None,
        memory_cap: int = MEMORY_CAP,
    ) -> None:
        if len(files) != len(sizes):
            raise ValueError(f"{len(files)} files but {len(sizes)} sizes")
        self.files = tuple(files)
        self.sizes = tuple(sizes)
        self.channels = channels
        self._keep = tuple(tuple(m) for m in masks) if masks is not None else ((),) * len(files)
        self._drop = tuple(tuple(m) for m in inverted_masks) if inverted_masks is not None else ((),) * len(files)
        self._transparent = transparent
        self.memory_cap = memory_cap

    def __len__(self) -> int:
        return len(self.files)

    @property
    def has_masks(self) -> bool:
        return any(self._keep) or any(self._drop)

    def bytes_of(self, indices: Iterable[int] | None = None) -> int:
        """Size of the decoded pixels."""
        chosen = range(len(self)) if indices is None else indices
        return sum(self.sizes[i][0] * self.sizes[i][1] for i in chosen) * self.channels

    def load(self, index: int) -> Pixels:
        """Image ``index``, uint8 [H, W, channels].

        Raises:
            UserError: missing or corrupt file, or one whose size changed since the scene was read.
        """
        pixels = decode_image(self.files[index], self.channels)
        width, height = self.sizes[index]
        if pixels.shape[:2] != (height, width):
            raise UserError(
                f"{self.files[index]}: the image is {pixels.shape[1]}x{pixels.shape[0]} but its camera says {width}x{height}; "
                "restore the original size or correct w, h and the intrinsics"
            )
        if self._transparent and self.channels == 4:
            level = 255 if self._transparent == "white" else 0
            pixels = pixels.copy()
            pixels[(pixels[..., :3] == level).all(-1), 3] = 0
        return pixels

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Where image ``index`` may be used, bool [H, W], or None: everywhere."""
        keep, drop = self._keep[index], self._drop[index]
        if not keep and not drop:
            return None
        width, height = self.sizes[index]
        valid = np.ones((height, width), bool)
        for path in (*keep, *drop):
            mask = decode_image(path, 1)[..., 0]
            if mask.shape != (height, width):
                raise UserError(f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]} but its image {width}x{height}; resize the mask")
            valid &= (mask > 0) if path in keep else (mask == 0)
        return valid

    def load_flat(self, indices: Sequence[int], progress: Progress | None = None) -> tuple[Pixels, int]:
        """Pixels of several images one after the other, row by row: uint8 [P, channels], and ``channels``.

        Above the memory cap the array is a memory map of an unnamed temporary file.

        Raises:
            UserError: an image cannot be read, or there is no room for the pixels.
        """
        first = np.cumsum([0, *(self.sizes[i][0] * self.sizes[i][1] for i in indices)])
        out = allocate((int(first[-1]), self.channels), self.memory_cap)

        def fill(k: int) -> None:
            out[first[k] : first[k + 1]] = self.load(indices[k]).reshape(-1, self.channels)

        run_parallel(fill, len(indices), progress)
        return out, self.channels

    def load_all(self, indices: Sequence[int] | None = None, progress: Progress | None = None) -> Pixels:
        """Several images of one size, uint8 [N, H, W, channels]; memory-mapped above the cap.

        Raises:
            ValueError: the images differ in size (use :meth:`load_flat`).
            UserError: as :meth:`load_flat`.
        """
        chosen = list(range(len(self)) if indices is None else indices)
        sizes = {self.sizes[i] for i in chosen}
        if len(sizes) != 1:
            raise ValueError(f"load_all needs images of one size, got {len(sizes)} sizes")
        width, height = sizes.pop()
        flat, channels = self.load_flat(chosen, progress)
        return flat.reshape(len(chosen), height, width, channels)

    def valid_pixels(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        """Indices into :meth:`load_flat`'s rows that no mask excludes, int64 [V], or None: all of them."""
        if not any(self._keep[i] or self._drop[i] for i in indices):
            return None
        parts: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(indices)
        first = np.cumsum([0, *(self.sizes[i][0] * self.sizes[i][1] for i in indices)])

        def find(k: int) -> None:
            mask = self.mask(indices[k])
            size = first[k + 1] - first[k]
            parts[k] = first[k] + (np.arange(size) if mask is None else np.flatnonzero(mask))

        run_parallel(find, len(indices))
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def allocate(shape: tuple[int, int], cap: int) -> Pixels:
    size = shape[0] * shape[1]
    if size <= cap:
        return np.empty(shape, np.uint8)
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            # Reserve the blocks now: running out of disk inside a memory map kills the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        gigabytes = size / 1e9
        raise UserError(
            f"{folder}: no room for {gigabytes:.1f} GB of decoded images ({error.strerror}); "
            "free disk space, or set TMPDIR to a folder on a larger disk"
        ) from error


def run_parallel(work: Callable[[int], None], count: int, progress: Progress | None = None, workers: int | None = None) -> None:
    """``work(0) ... work(count - 1)`` in threads (decoders release the GIL); the first exception stops the rest and is raised."""
    workers = min(count, workers or min(16, os.cpu_count() or 1))
    if workers <= 1:
        for k in range(count):
            work(k)
            if progress:
                progress(k + 1, count)
        return
    with ThreadPoolExecutor(workers, "images") as pool:
        futures = [pool.submit(work, k) for k in range(count)]
        try:
            for done, future in enumerate(futures, 1):
                future.result()
                if progress:
                    progress(done, count)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
