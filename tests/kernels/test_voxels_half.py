"""Voxels of half precision, which pictures are made from, against those of float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from family_cases import lowered, mapped, scene, voxel_encoding
from kernel_cases import assert_close
from torch import Tensor

from fieldmorph.kernels import cpu, full_precision
from fieldmorph.kernels.cpu.half import FAST
from fieldmorph.kernels.lowered import Lowered

pytestmark = pytest.mark.skipif(not FAST, reason="this CPU has no conversion of half precision")

FIELDS = {
    "degree 3": lambda: lowered(voxel_encoding()),
    "degree 1": lambda: lowered(voxel_encoding(degree=1)),
    "degree 2, dense": lambda: lowered(voxel_encoding(degree=2, share=1.0)),
    "degree 4, sparse": lambda: lowered(voxel_encoding(degree=4, share=0.15)),
    "flat": lambda: lowered(voxel_encoding(grid=(1, 9, 2))),
    "unbounded": lambda: lowered(voxel_encoding(), unbounded=True),
}


@torch.no_grad()
def picture(field: Lowered) -> Tensor:
    """rgb and opacity [N, 4]."""
    found = cpu.render_rays(field, *scene(), 1.0)
    return torch.cat([found.rgb, found.opacity[:, None]], -1)


@pytest.mark.parametrize("name", FIELDS)
def test_numbers_that_fit_give_the_same_picture(name: str) -> None:
    field = mapped(FIELDS[name](), lambda tensor: tensor.half().float())
    with full_precision():
        exact = picture(field)
    assert float(exact[:, 3].mean()) > 0.05
    assert_close(picture(field), exact, 3e-5, "picture")


def test_rounding_costs_little() -> None:
    field = FIELDS["degree 3"]()
    with full_precision():
        exact = picture(field)
    found = picture(field)
    assert not torch.equal(found, exact)
    assert_close(found, exact, 3e-3, "picture")


def test_numbers_beyond_the_format_become_its_largest() -> None:
    encoding = voxel_encoding(share=1.0)
    field = lowered(replace(encoding, sh=encoding.sh * 1e6, density=encoding.density * 1e5))
    assert picture(field).isfinite().all()


def test_a_vertex_with_the_density_of_none_is_not_pruned() -> None:
    encoding = voxel_encoding(share=1.0)
    field = lowered(replace(encoding, density=torch.full_like(encoding.density, encoding.empty)))
    with full_precision():
        exact = picture(field)
    assert float(exact[:, 3].max()) > 0.01
    assert_close(picture(field), exact, 1e-3, "picture")  # one unit in the last place off


def test_nothing_left_is_seen_as_nothing() -> None:
    encoding = voxel_encoding(share=0.0)
    assert float(picture(lowered(encoding)).max()) < 1e-30
    links = encoding.links.clone()
    links[3, 4, 4] = 0
    one = lowered(replace(encoding, links=links, density=torch.full((1,), 5.0), sh=torch.ones(1, 27)))
    with full_precision():
        exact = picture(one)
    assert 0.0 < float(exact[:, 3].mean()) < 0.5
    assert_close(picture(one), exact, 3e-5, "picture")


def test_a_change_is_seen() -> None:
    field = FIELDS["degree 3"]()
    before = picture(field)
    with torch.no_grad():
        field.encoding.sh.mul_(0.5)  # type: ignore[union-attr]
    assert not torch.equal(picture(field), before)
