"""Facts of the papers that the families must reproduce, and what only one family does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fieldmorph import kernels
from fieldmorph.kernels.lowered import DENSE, HASHED, TILED
from fieldmorph.representations.field import Field
from fieldmorph.representations.hashgrid import HashGridOptions, grid_layout
from fieldmorph.representations.mlp import positional_encoding
from fieldmorph.representations.registry import build, get_family
from fieldmorph.representations.space import Space
from fieldmorph.representations.tensorf import VMOptions
from fieldmorph.representations.voxel_penalty import voxel_penalty
from fieldmorph.representations.voxels import VoxelField

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def _meta(name: str, **options: object) -> Field:
    family = get_family(name)
    with torch.device("meta"):
        return family.field(family.options(**options), BOX)  # type: ignore[no-any-return]


def _count(module: torch.nn.Module, prefix: str = "") -> int:
    return sum(p.numel() for n, p in module.named_parameters() if n.startswith(prefix))


# Instant-NGP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log2_table", "rows"), [(19, 11_477_728), (18, 6_209_872), (17, 3_326_288)])
def test_hash_table_sizes_of_hollownerf(log2_table: int, rows: int) -> None:
    """Parameter counts of HollowNeRF's table 1 (16 levels, 2 features, finest 1024), to the last digit."""
    layout = grid_layout(HashGridOptions(levels=16, features=2, log2_table=log2_table, finest=1024))
    assert layout.offsets[-1] * layout.features == rows


def test_resolutions_of_pvd() -> None:
    layout = grid_layout(HashGridOptions(levels=14, features=2, log2_table=19, finest=2048))
    assert layout.resolutions[0] == 16
    assert layout.resolutions[-1] == 2048
    assert layout.kinds == (DENSE,) * 5 + (HASHED,) * 9


def test_networks_of_instant_ngp() -> None:
    """Bias-free 32 -> 64 -> 16 and 31 -> 64 -> 64 -> 3."""
    assert _count(_meta("hashgrid"), "encoder.head") == 32 * 64 + 64 * 16
    assert _count(_meta("hashgrid"), "color_head") == 31 * 64 + 64 * 64 + 64 * 3


def test_dense_and_tiled_grids() -> None:
    dense = grid_layout(HashGridOptions(encoding="dense"))
    assert dense.resolutions == (16, 23, 32, 45, 63, 88, 124, 173)  # instant-ngp's dense configuration: growth 1.405
    assert set(dense.kinds) == {DENSE}
    single = grid_layout(HashGridOptions(encoding="dense", levels=2, base=128, finest=128, features=8))
    assert single.resolutions == (128, 128)
    assert single.offsets[1] == 129**3 + (-(129**3)) % 8
    assert set(grid_layout(HashGridOptions(encoding="tiled")).kinds) == {DENSE, TILED}


def test_table_starts_small_and_density_near_one() -> None:
    field = build("hashgrid", {"levels": 4, "log2_table": 8}, BOX)
    assert float(field.encoder.table.detach().abs().max()) <= 1e-4  # type: ignore[union-attr, operator]
    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    assert float(field.geometry(x).log_density.detach().abs().max()) < 1e-2


# NeRF and PVD ----------------------------------------------------------------------------------------------------


def test_backbone_size_of_pvd() -> None:
    """434 k parameters up to the hash grid's encoded width of 28."""
    field = _meta("mlp", encoded=28)
    assert _count(field, "encoder.layers") == 434_460
    assert _count(field, "encoder.head") + _count(field, "color_head") == 28 * 64 + 64 * 16 + 31 * 64 + 64 * 64 + 64 * 3


def test_networks_can_be_inherited_from_a_hash_grid() -> None:
    """Same names and shapes behind the encoding (PVD, A4)."""
    grid, network = _meta("hashgrid").state_dict(), _meta("mlp").state_dict()
    shared = {k for k in grid if not k.startswith("occupancy.") and k in network}
    assert {k.rsplit(".weights", 1)[0] for k in shared} == {"encoder.head", "color_head"}
    assert all(grid[k].shape == network[k].shape for k in shared)


def test_positional_encoding() -> None:
    x = torch.tensor([[0.5, -0.25, 1.0]])
    found = positional_encoding(x, 10)
    assert found.shape == (1, 63)
    assert torch.equal(found[:, :3], x)
    assert torch.allclose(found[:, 3:6], torch.sin(x))
    assert torch.allclose(found[:, 60:], torch.cos(512.0 * x))


def test_bfloat16_is_close_and_trains() -> None:
    options = {"layers": 4, "width": 64, "octaves": 6}
    full, half = (build("mlp", {**options, "precision": precision}, BOX) for precision in ("float32", "bfloat16"))
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    a, b = full.geometry(x).log_density, half.geometry(x).log_density
    assert b.dtype is torch.float32
    assert not torch.equal(a, b)
    assert float((a - b).detach().abs().max()) < 0.05  # bf16 keeps 8 bits; measured 0.01
    b.sum().backward()
    assert all(p.grad is None or p.grad.dtype is torch.float32 for p in half.parameters())


# TensoRF ---------------------------------------------------------------------------------------------------------


def test_vm_192_size() -> None:
    """PVD counts 17.34 M parameters at 300^3."""
    field = _meta("vm", start=300)
    assert _count(field, "encoder.") == 3 * (300 * 300 + 300) * 64 + 15 * 144
    assert _count(field, "encoder.") == pytest.approx(17.34e6, rel=1e-3)


def test_vm_starts_nearly_transparent() -> None:
    field = build("vm", {"start": 16, "final": 16}, BOX)
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    density = field.density(x).detach()
    assert 0.01 < float(density.mean()) < 0.03, "exp(-4), so that a ray through the box meets a few percent of matter"


def test_vm_refines_towards_its_final_resolution() -> None:
    field = build("vm", {"start": 16, "final": 32, "marks": (0.2, 0.6), "shrink": False}, BOX)
    sizes = []
    for progress in (0.1, 0.3, 0.5, 0.7, 1.0):
        field.milestone(progress)
        sizes.append(field.layout()["grid"][0])
    assert sizes == [16, 22, 22, 32, 32]


def test_vm_follows_a_flat_box() -> None:
    field = get_family("vm").field(VMOptions(start=32), Space((-2, -1, 0), (2, 1, 1)))
    x, y, z = field.layout()["grid"]
    assert x == 2 * y == 4 * z


def test_shrinking_keeps_world_densities_and_tells_the_metadata() -> None:
    field = build("vm", {"start": 24, "final": 24, "marks": (0.1,), "occupancy": 16}, BOX)
    field.metadata["near"] = 0.4
    generator = torch.Generator().manual_seed(0)
    field.occupancy.update(lambda p: (p.norm(dim=-1) < 0.4).float() * 100, field.space, 0, generator, 1.0)
    assert field.milestone(0.2)
    assert field.space.size[0] < 1.3
    assert field.metadata["near"] / field.space.scale == pytest.approx(0.4)
    assert field.layout()["shift"] < -4.0


def test_unbounded_space_is_not_shrunk() -> None:
    field = build("vm", {"start": 8, "final": 12, "occupancy": 8}, Space((-1, -1, -1), (1, 1, 1), True))
    field.occupancy.bits.zero_()
    field.occupancy.bits[4, 4, 4] = True
    field.milestone(1.0)
    assert field.space.size == (2, 2, 2)


@pytest.mark.parametrize("unbounded", [False, True])
def test_factors_are_smoothed_where_asked(unbounded: bool) -> None:
    space = Space((-1, -1, -1), (1, 1, 1), unbounded)
    plain = build("vm", {"start": 8, "final": 12}, space)
    smoothed = build("vm", {"start": 8, "final": 12, "tv_density": 0.1, "tv_color": 0.01}, space)
    priors = [f.regularization(0) for f in (plain, smoothed)]
    assert priors[0] is not None
    assert priors[1] is not None
    sizes = {name: p.abs().mean() for name, p in plain.named_parameters() if "density_" in name}
    torch.testing.assert_close(priors[0], 8e-5 * sum(sizes.values()))  # the L1 prior alone
    assert float(priors[1].detach()) > 2 * float(priors[0].detach())


# Plenoxels -------------------------------------------------------------------------------------------------------


def _voxels(**options: object) -> VoxelField:
    field = build("voxels", {"start": 16, "final": 24, "occupancy": 16, **options}, BOX)
    assert isinstance(field, VoxelField)
    return field


def test_voxel_row_width_of_plenoxels() -> None:
    """One density and 3 x 9 coefficients."""
    field = _meta("voxels")
    assert isinstance(field, VoxelField)
    assert field.sh_data.shape == (64**3, 27)


def test_voxels_prune_what_is_empty() -> None:
    field = _voxels(shrink=False, marks=(0.1,))
    with torch.no_grad():
        field.sh_data.normal_(generator=torch.Generator().manual_seed(0))
        field.density_data.fill_(3.0)
    field.occupancy.update(lambda p: (p.norm(dim=-1) < 0.4).float() * 100, field.space, 0, torch.Generator().manual_seed(0), 1.0)
    assert field.milestone(0.5)
    assert field.grid == (24, 24, 24)
    assert field.rows < 0.25 * 24**3
    assert sorted(field.links[field.links >= 0].tolist()) == list(range(field.rows))
    inside, outside = torch.tensor([[0.3, 0.1, 0.0]]), torch.tensor([[0.9, 0.9, 0.0]])
    assert float(field.density(inside).detach()) == pytest.approx(2.718281828**3, rel=1e-3)
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            assert float(field.density(outside).detach()) == 0.0
    field.check_content()


def test_voxels_stay_within_their_rows() -> None:
    field = _voxels(max_rows=3000, marks=(0.1,))
    assert field.milestone(1.0)  # nothing is known to be empty, so the resolution must give way
    assert 1500 < field.rows <= 3000


def test_total_variation_smooths_and_touches_few_rows() -> None:
    field = _voxels(subset=0.05, tv_density=1.0, tv_sh=1.0, sparsity=0.0)
    with torch.no_grad():
        field.density_data.normal_(generator=torch.Generator().manual_seed(0))
    before = field.density_data.detach().clone()
    prior = field.regularization(3)
    assert prior is not None
    prior.backward()
    assert field.density_data.grad is not None
    touched = field.density_data.grad != 0
    assert 0.02 < float(touched.float().mean()) < 0.25
    with torch.no_grad():
        field.density_data -= 0.05 * field.density_data.grad / field.density_data.grad.abs().max()
    again = field.regularization(3)
    assert again is not None
    assert float(again.detach()) < float(prior.detach())
    assert not torch.equal(before, field.density_data)


def test_sparse_penalty_gradients_add_to_dense_ones() -> None:
    """Rendering's gradient is dense, the penalties' is sparse; together they are the plain sum, whichever comes first."""
    field = _voxels(tv_sh=0.1)
    with torch.no_grad():
        field.sh_data.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 0.5

    def data() -> torch.Tensor:
        return field.geometry(x).features.square().sum()

    def prior() -> torch.Tensor:
        term = field.regularization(0)
        assert term is not None
        return term

    def gradients(*losses: Callable[[], torch.Tensor]) -> torch.Tensor:
        field.zero_grad()
        total = torch.stack([loss() for loss in losses]).sum()
        total.backward()
        assert field.sh_data.grad is not None
        assert not field.sh_data.grad.is_sparse
        return field.sh_data.grad.clone()

    apart = gradients(data) + gradients(prior)
    assert torch.allclose(gradients(data, prior), apart)
    assert torch.allclose(gradients(prior, data), apart)


def test_penalty_gradients_are_those_of_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    density, sh = (torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in ((30,), (30, 4)))
    here = torch.arange(5, 15)
    neighbours = torch.randint(-1, 30, (10, 3), generator=generator)
    found = voxel_penalty(density, sh, here, neighbours, 0.3, 0.7, 0.2)
    linked = (neighbours >= 0)[..., None]
    terms = []
    for values, weight in ((density[:, None], 0.3), (sh, 0.7)):
        difference = torch.where(linked, values[neighbours.clamp_min(0)] - values[here][:, None], 0.0)
        terms.append(weight * (difference.square().sum(1) + 1e-9).sqrt().mean())
    expected = terms[0] + terms[1] + 0.2 * torch.log1p(2.0 * torch.exp(2.0 * density[here])).mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()))
    for a, b in zip(torch.autograd.grad(found, (density, sh)), torch.autograd.grad(expected, (density, sh)), strict=True):
        assert torch.allclose(a.to_dense(), b)


# Compositions ----------------------------------------------------------------------------------------------------


def test_hybrid_is_the_sum_of_its_branches() -> None:
    kernels.set_kernels("reference")
    try:
        field = build("hybrid", {"levels": 2, "log2_table": 6, "start": 6, "final": 8, "occupancy": 8}, BOX)
        unit = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
        parts = [branch(unit) for branch in field.encoder.branches]  # type: ignore[union-attr]
        assert torch.allclose(field.encoder(unit), parts[0] + parts[1])  # type: ignore[operator]
    finally:
        kernels.set_kernels("auto")


def test_hybrid_factors_learn_twice_as_fast() -> None:
    """TensoRF's 0.02 beside Instant-NGP's 0.01."""
    rates = {g["name"]: g["lr"] for g in build("hybrid", {"levels": 2, "log2_table": 6, "start": 6, "final": 8}, BOX).parameter_groups()}
    assert rates["branch 0 table"] == 1.0
    assert rates["branch 1 factors"] == 2.0
