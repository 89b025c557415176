"""The baked stand-in: it looks like the field, is cached by content, and never fails a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fieldmorph.kernels.cancel import Cancelled
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space
from fieldmorph.viewer.engine import FieldSource, preview_settings
from fieldmorph.viewer.entries import open_entry
from fieldmorph.viewer.jobs import Job
from fieldmorph.viewer.preview import bake, preview_for, preview_psnr, why_no_preview


@pytest.fixture
def entry(field_files: list[Path]):
    return open_entry(field_files[0])


def test_looks_like_the_field_and_keeps_to_its_rows(entry) -> None:
    rows = 200_000
    preview = bake(entry.field, rows=rows)
    assert preview.rows <= rows
    assert preview.rows < preview.links.numel()  # empty space costs nothing
    score = preview_psnr(
        entry.field,
        preview,
        entry.cameras[0].resized(96, 72),
        entry.settings,
        preview_settings(FieldSource(entry.field, entry.settings, preview)),
    )
    assert score > 24.0
    coarse = bake(entry.field, rows=20_000)
    assert max(coarse.grid) < max(preview.grid)


def test_views_from_everywhere_have_their_own_colours() -> None:
    """A field whose colour depends on the direction keeps that in its preview."""
    field = build("voxels", {"start": 8, "final": 8, "degree": 2, "occupancy": 16}, Space((-1.0,) * 3, (1.0,) * 3))
    with torch.no_grad():
        field.density_data.fill_(3.0)
        field.sh_data.zero_()
        field.sh_data[:, 2] = 2.0  # red grows along one axis
    preview = bake(field, rows=30_000)
    positions = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    for direction in torch.eye(3):
        directions = direction.expand(200, 3).contiguous()
        wanted = field.color(field.geometry(positions).features, directions)
        found = preview.color(preview.geometry(positions).features, directions)
        assert float((wanted - found).detach().abs().max()) < 0.08


def test_cache_follows_the_file_s_content(entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmorph.viewer.preview.ROWS", 20_000)
    baked = []

    def counted(field, rows=20_000, progress=lambda share: None):
        baked.append(1)
        return bake(field, rows, progress)

    monkeypatch.setattr("fieldmorph.viewer.preview.bake", counted)
    cache = tmp_path / "cache"
    first = preview_for(entry.field, entry.path, folder=cache)
    again = preview_for(entry.field, entry.path, folder=cache)
    assert len(baked) == 1
    torch.testing.assert_close(again.density_data, first.density_data, atol=0.01, rtol=0.0)
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    preview_for(entry.field, entry.path, folder=cache)
    assert len(baked) == 2
    (tmp_path / "file").write_text("")
    preview_for(entry.field, entry.path, folder=tmp_path / "file" / "cache")  # cannot be written: baked all the same
    assert len(baked) == 3
    preview_for(entry.field, None)
    assert len(baked) == 4


def test_baking_can_be_stopped(entry) -> None:
    job = Job("preview", lambda job: (job.stop(), bake(entry.field, rows=20_000, progress=job.progress)))
    assert job.wait(60)
    assert job.stopped
    with pytest.raises(Cancelled):
        job.progress(0.5)


def test_who_gets_none(entry) -> None:
    assert why_no_preview(entry.field) is not None
    field = build("hashgrid", None, Space((-1.0,) * 3, (1.0,) * 3))
    assert why_no_preview(field) is None
