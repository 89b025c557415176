"""Video files: H.264 in MP4 through imageio's PyAV plugin, close to lossless and with honest colours.

Frames are never resized; odd sizes are padded by repeating their last row or column.
Colours are converted to BT.709 video range here and tagged so, because players guess otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..representations.container import atomic_file

__all__ = ["CRF", "VideoWriter", "open_video", "pad_even", "rgb_to_bt709"]

Bytes = NDArray[np.uint8]

CRF = 14
"""x264's constant rate factor; 16 and below spoil no comparison by eye."""

_BT709 = 1  # the code of BT.709 primaries, transfer and matrix alike (ITU-T H.273, tables 2 to 4)
_VIDEO_RANGE = 1

# Y'CbCr from R'G'B' in [0, 255] (ITU-R BT.709, section 3), video range: Y' in [16, 235], Cb and Cr in [16, 240].
_LUMA = np.array([0.2126, 0.7152, 0.0722])
_BLUE = (np.array([0.0, 0.0, 1.0]) - _LUMA) / 1.8556
_RED = (np.array([1.0, 0.0, 0.0]) - _LUMA) / 1.5748
_MATRIX = np.stack([_LUMA * 219.0, _BLUE * 224.0, _RED * 224.0]).astype(np.float32) / np.float32(255.0)
_OFFSET = np.array([16.0, 128.0, 128.0], np.float32)


class VideoWriter(Protocol):
    """What :func:`open_video` yields."""

    def __call__(self, frame: Bytes) -> None:
        """Append one frame, [H, W, 3] or [H, W] uint8, all of one size."""


def pad_even(frame: Bytes) -> Bytes:
    """Repeat the last row and column where a side is odd: 4:2:0 video has even sides."""
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def rgb_to_bt709(frame: Bytes) -> Bytes:
    """R'G'B' [H, W, 3] to BT.709 Y'CbCr in video range, planar [3, H, W]."""
    planes = np.tensordot(_MATRIX, frame.astype(np.float32), axes=([1], [2])) + _OFFSET[:, None, None]
    rounded: Bytes = np.rint(planes).astype(np.uint8)
    return rounded


@contextlib.contextmanager
def open_video(path: str | Path, fps: float = 30.0, crf: int = CRF) -> Iterator[VideoWriter]:
    """Write an MP4 that appears under ``path`` when the block has ended well, and not at all otherwise.

    Raises:
        UserError: wrong file name, no H.264 encoder on this machine, frames of different sizes, none at all,
            or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path}: videos are written as MP4; give the file a name that ends in .mp4, or a folder for PNG frames")
    if not 0.0 < fps <= 1000.0:
        raise UserError(f"{path}: {fps} frames per second is not a rate a video can have; give one between 1 and 1000")
    with atomic_file(path) as file:
        try:
            target: Any = _Seekable(file)
            container: Any = iio.imopen(target, "w", plugin="pyav", extension=".mp4", container="mp4")
            container.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
        except Exception as error:  # a missing av, a missing encoder and a foreign build of either fail differently
            raise UserError(
                f"{path}: no H.264 video can be written here ({error}); install PyAV with `pip install av`, "
                "or render to a folder, which writes PNG frames"
            ) from error
        stream = container._video_stream  # imageio has no public way to set the encoder's options
        stream.options = {"crf": str(crf), "preset": "medium"}
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = _BT709, _BT709, _BT709, _VIDEO_RANGE
        writer = _Writer(path, container)
        try:
            yield writer
            if writer.size is None:
                raise UserError(f"{path}: there is no frame to write; the camera path is empty")
        except BaseException:
            # What the encoder still holds belongs to a file that will not exist.
            container._video_stream = None
            with contextlib.suppress(Exception):
                container.close()
            raise
        container.close()


class _Seekable:
    """An open file without its name: PyAV would guess a format from that."""

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.seek, self.tell, self.flush = file.write, file.seek, file.tell, file.flush

    def close(self) -> None:
        """The file belongs to its opener; imageio only looks whether there is such a method."""


class _Writer:
    def __init__(self, path: Path, container: Any) -> None:
        self.path, self.container = path, container
        self.size: tuple[int, ...] | None = None

    def __call__(self, frame: Bytes) -> None:
        if frame.ndim == 2:
            frame = np.repeat(frame[..., None], 3, -1)
        if self.size is not None and frame.shape != self.size:
            raise UserError(
                f"{self.path}: a frame of {frame.shape[1]}x{frame.shape[0]} follows one of {self.size[1]}x{self.size[0]}; use one --size"
            )
        self.size = frame.shape
        self.container.write_frame(rgb_to_bt709(pad_even(frame)), pixel_format="yuv444p")
