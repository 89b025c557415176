"""Pictures and films: what is written is what is read back."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from fieldmorph.errors import UserError
from fieldmorph.render.images import colormap, depth_range, is_complete_png, picture, save_depth, save_image, to_bytes
from fieldmorph.render.types import Rendering
from fieldmorph.render.video import open_video, rgb_to_bt709


def rendering(height: int = 6, width: int = 9) -> Rendering:
    generator = torch.Generator().manual_seed(0)
    opacity = torch.ones(height, width)
    opacity[0] = 0.0
    opacity[1] = 0.5
    normals = torch.randn(height, width, 3, generator=generator)
    return Rendering(
        torch.rand(height, width, 3, generator=generator) * opacity[..., None],
        (2.0 + 3.0 * torch.rand(height, width, generator=generator)) * (opacity > 0),
        opacity,
        normals / normals.norm(dim=-1, keepdim=True),
    )


def test_bytes_round_and_survive_nan() -> None:
    values = torch.tensor([-1.0, 0.0, 0.5 / 255 - 1e-6, 0.5 / 255 + 1e-6, 1.0, 7.0, float("nan"), float("inf")])
    assert to_bytes(values).tolist() == [0, 0, 0, 1, 255, 255, 0, 255]
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_bytes(every.astype(np.float32) / 255), every)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_png_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    save_image(tmp_path / "ä b.png", pixels)
    assert np.array_equal(iio.imread(tmp_path / "ä b.png"), pixels)
    assert [p.name for p in tmp_path.iterdir()] == ["ä b.png"]


def test_kinds_of_pictures() -> None:
    seen = rendering()
    assert picture(seen, "rgb").shape == (6, 9, 3)
    rgba = picture(seen, "rgba")
    assert rgba.shape == (6, 9, 4)
    assert rgba[1, 0, 3] == 128
    np.testing.assert_allclose(rgba[1, :, :3], np.rint(seen.rgb[1].numpy() / 0.5 * 255), atol=1)
    assert picture(seen, "opacity").shape == (6, 9)
    assert (picture(seen, "depth")[0] == 0).all()
    assert np.array_equal(picture(seen, "normals")[3], to_bytes(seen.normals[3] / 2 + 0.5))
    with pytest.raises(ValueError, match="normals"):
        picture(Rendering(seen.rgb, seen.depth, seen.opacity), "normals")
    with pytest.raises(ValueError, match="unknown kind"):
        picture(seen, "heat")  # type: ignore[arg-type]


def test_depth_picture_states_its_range() -> None:
    seen = rendering()
    near, far = depth_range(seen)
    assert 2.0 <= near < far <= 5.0
    assert depth_range(Rendering(seen.rgb, seen.depth, torch.zeros_like(seen.opacity))) == (0.0, 1.0)
    painted = picture(seen, "depth", (2.0, 5.0))
    np.testing.assert_allclose(painted[4], to_bytes(colormap((seen.depth[4].numpy() - 2.0) / 3.0)), atol=1)
    flat = Rendering(seen.rgb, torch.full_like(seen.depth, 3.0), torch.ones_like(seen.opacity))
    assert np.isfinite(picture(flat, "depth")).all()


def test_colormap_is_injective_and_clamped() -> None:
    colors = to_bytes(colormap(np.linspace(0, 1, 101)))
    assert len({tuple(c) for c in colors.tolist()}) == 101
    assert np.array_equal(colormap([-1.0, np.nan, 2.0]), colormap([0.0, 0.0, 1.0]))


def test_raw_depth(tmp_path: Path) -> None:
    seen = rendering()
    save_depth(tmp_path / "d.png", seen, 1e-3)
    raw = iio.imread(tmp_path / "d.png")
    assert raw.dtype == np.uint16
    assert (raw[:2] == 0).all()
    np.testing.assert_allclose(raw[2:] * 1e-3, seen.depth[2:], atol=0.51e-3)
    save_depth(tmp_path / "far.png", seen, 1e-6)
    assert iio.imread(tmp_path / "far.png").max() == 65535


def test_complete_png_is_told_from_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_image(path, np.zeros((5, 7, 3), np.uint8))
    assert is_complete_png(path, 7, 5)
    assert not is_complete_png(path, 5, 7)
    path.write_bytes(path.read_bytes()[:-3])
    assert not is_complete_png(path, 7, 5)
    path.write_bytes(b"")
    assert not is_complete_png(path, 7, 5)
    assert not is_complete_png(tmp_path / "none.png", 7, 5)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.jpg"):
        save_image(tmp_path / "x.jpg", np.zeros((2, 2, 3)))
    with pytest.raises(UserError, match="missing"):
        save_image(tmp_path / "missing" / "x.png", np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="got"):
        save_image(tmp_path / "x.png", np.zeros((2, 2, 5)))
    with pytest.raises(UserError, match=r"x\.avi"), open_video(tmp_path / "x.avi"):
        pass


@pytest.mark.parametrize(("width", "height"), [(64, 48), (37, 51)])
def test_video_keeps_size_frame_count_and_colour(tmp_path: Path, width: int, height: int) -> None:
    import av

    colors = [(200, 30, 60), (20, 180, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0), (10, 20, 240)]
    frames = [np.broadcast_to(np.array(c, np.uint8), (height, width, 3)).copy() for c in colors]
    path = tmp_path / "film.mp4"
    with open_video(path, fps=24) as write:
        for frame in frames:
            write(frame)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(24)
    assert len(decoded) == len(frames)
    for got, color in zip(decoded, colors, strict=True):
        assert (got.width, got.height) == (width + width % 2, height + height % 2)
        assert (got.colorspace, got.color_range) == (1, 1)
        y, u, v = rgb_to_bt709(np.array([[color]], np.uint8))[:, 0, 0].tolist()
        planes = [np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] for plane in got.planes]
        for plane, expected in zip(planes, (y, u, v), strict=True):
            np.testing.assert_allclose(plane.astype(int), expected, atol=2)


def test_bt709_matrix_at_its_corners() -> None:
    corners = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    ycbcr = rgb_to_bt709(corners)[:, 0].T.tolist()
    assert ycbcr == [[235, 128, 128], [16, 128, 128], [63, 102, 240], [32, 240, 118]]


def test_failed_video_leaves_nothing(tmp_path: Path) -> None:
    frame = np.zeros((16, 16, 3), np.uint8)

    def film(*frames: np.ndarray) -> None:
        with open_video(tmp_path / "a.mp4") as write:
            for each in frames:
                write(each)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        film(frame, frame)
    with pytest.raises(UserError, match="no frame"), open_video(tmp_path / "a.mp4"):
        pass
    with pytest.raises(UserError, match="16x16"):
        film(frame, np.zeros((18, 16, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_missing_encoder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **options: object) -> None:
        raise ImportError("no module named av")

    monkeypatch.setattr("fieldmorph.render.video.iio.imopen", missing)
    with pytest.raises(UserError, match="PNG frames"), open_video(tmp_path / "a.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

    def film() -> None:
        with open_video(tmp_path / "a.mp4") as write:
            for _ in range(30):
                write(noise)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # stands in for a full disk: writes beyond fail
    try:
        with pytest.raises(UserError, match=r"a\.mp4.*cannot be written"):
            film()
        with pytest.raises(UserError, match=r"a\.png.*cannot be written"):
            save_image(tmp_path / "a.png", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
