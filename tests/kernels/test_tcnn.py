"""Parameters between ours and tiny-cuda-nn's, against its documented layout; on a GPU that has it, values too."""

from __future__ import annotations

import copy
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from kernel_cases import assert_close, head, relative
from torch import Tensor

from fieldmorph import kernels
from fieldmorph.kernels import reference, tcnn
from fieldmorph.kernels.lowered import HASHED, GridLayout
from fieldmorph.representations.hashgrid import HashGridOptions, grid_layout
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

RECORDED = {
    # base_resolution, log2_hashmap_size -> rows of a hashed grid's one level, hashed? (grid.h: vertices rounded up to 8, at most 2^log2)
    (17, 14): (4920, False),
    (24, 14): (13824, False),
    (26, 14): (16384, True),
    (513, 14): (16384, True),
}


def looked_up(unit: Tensor, flat: Tensor, config: dict[str, object]) -> Tensor:
    """What tiny-cuda-nn reads of a one-level grid, written down from grid.h's description, in float64."""
    features = int(config["n_features_per_level"])  # type: ignore[call-overload]
    rows, hashed = tcnn.documented_rows(config)
    scale = float(config["base_resolution"]) - 1.0  # type: ignore[arg-type]
    side = int(config["base_resolution"])  # type: ignore[call-overload]
    place = unit.double() * scale + 0.5
    cell = place.floor()
    part = place - cell
    total = torch.zeros(len(unit), features, dtype=torch.float64, device=unit.device)
    for corner in range(8):
        step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=unit.device)
        at = (cell + step).long()
        if hashed:
            index = at[:, 0] ^ (at[:, 1] * 2654435761 & 0xFFFFFFFF) ^ (at[:, 2] * 805459861 & 0xFFFFFFFF)
        else:
            index = at[:, 0] + side * (at[:, 1] + side * at[:, 2])
        weight = torch.where(step.bool(), part, 1.0 - part).prod(-1, keepdim=True)
        total += weight * flat.view(rows, features)[index % rows]
    return total


@pytest.mark.parametrize("sizes", RECORDED)
def test_rows_of_a_level(sizes: tuple[int, int]) -> None:
    config = {"type": "Hash", "base_resolution": sizes[0], "log2_hashmap_size": sizes[1]}
    assert tcnn.documented_rows(config) == RECORDED[sizes]


@pytest.mark.parametrize("encoding", ["hash", "dense"])
@pytest.mark.parametrize("features", [2, 4])
def test_its_look_up_of_our_table_is_ours(encoding: str, features: int) -> None:
    options = HashGridOptions(levels=4, features=features, log2_table=12, base=5, finest=40, encoding=encoding)  # type: ignore[arg-type]
    layout = grid_layout(options)
    assert tcnn.why_not_grid(layout) is None
    assert encoding == "dense" or HASHED in layout.kinds
    g = torch.Generator().manual_seed(0)
    table = torch.rand(layout.offsets[-1], features, dtype=torch.float64, generator=g)
    unit = torch.cat([torch.rand(200, 3, dtype=torch.float64, generator=g), torch.zeros(1, 3), torch.ones(1, 3), torch.eye(3)])
    parts = []
    for (resolution, kind, rows), flat in zip(tcnn.levels(layout), tcnn.grid_to_native(table, layout), strict=True):
        config = tcnn.level_config(resolution, rows, kind, features)
        parts.append(looked_up(tcnn.shifted(unit, resolution), flat, config))
    assert_close(torch.cat(parts, -1), reference.grid_encode(unit, table, layout), 1e-9, "look-up")
    assert torch.equal(tcnn.grid_from_native(tcnn.grid_to_native(table, layout), layout), table)


def test_networks_are_padded_to_sixteen_and_back() -> None:
    weights = head(torch.Generator().manual_seed(1), 31, 64, 64, 3)
    flat = tcnn.network_to_native(weights)
    assert flat.numel() == 64 * 32 + 64 * 64 + 16 * 64
    back = tcnn.network_from_native(flat, [(64, 31), (64, 64), (3, 64)])
    assert all(torch.equal(a, b) for a, b in zip(back, weights, strict=True))
    x = torch.rand(5, 31)
    first, second, third = flat[:2048].view(64, 32), flat[2048:6144].view(64, 64), flat[6144:].view(16, 64)
    padded = torch.cat([x, torch.ones(5, 1)], 1)  # it fills inputs up with ones
    answer = (padded @ first.t()).relu() @ second.t()
    assert_close((answer.relu() @ third.t())[:, :3], reference.small_mlp(x, weights), 1e-5, "padded network")
    with pytest.raises(ValueError, match="do not make up"):
        tcnn.network_from_native(flat[:-1], [(64, 31), (64, 64), (3, 64)])


def test_what_it_cannot_hold_is_said() -> None:
    tiled = grid_layout(HashGridOptions(levels=4, log2_table=8, base=8, finest=64, encoding="tiled"))
    assert "tiled" in (tcnn.why_not_grid(tiled) or "")
    assert "3 numbers" in (tcnn.why_not_grid(GridLayout((3,), (0, 64), (0,), 3)) or "")
    assert "one width" in (tcnn.why_not_network(head(torch.Generator(), 31, 24, 3)) or "")
    assert tcnn.why_not_network(head(torch.Generator(), 31, 64, 64, 3)) is None


class Encoding(torch.nn.Module):
    """``tinycudann.Encoding`` as its Python module is written: flat float32 ``params``, half precision in and out, on a GPU only."""

    def __init__(self, n_input_dims: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.config, rows = config, tcnn.documented_rows(config)[0]
        self.params = torch.nn.Parameter(torch.zeros(rows * config["n_features_per_level"], device="cuda"))

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) and x.is_cuda and self.params.is_cuda and self.params.dtype == torch.float32
        return looked_up(x, self.params.half().double(), self.config).half()


class Network(torch.nn.Module):
    """``tinycudann.Network``, likewise."""

    def __init__(self, n_input_dims: int, n_output_dims: int, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.outputs = config["n_neurons"], n_output_dims
        self.shapes = [(width, -(-n_input_dims // 16) * 16), *[(width, width)] * (config["n_hidden_layers"] - 1)]
        self.shapes.append((-(-n_output_dims // 16) * 16, width))
        self.params = torch.nn.Parameter(torch.zeros(sum(a * b for a, b in self.shapes), device="cuda"))

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) and x.is_cuda and self.params.is_cuda and self.params.dtype == torch.float32
        parts = torch.split(self.params.half().float(), [a * b for a, b in self.shapes])
        x = torch.nn.functional.pad(x, (0, self.shapes[0][1] - x.shape[1]), value=1.0)
        for shape, part in zip(self.shapes[:-1], parts[:-1], strict=True):
            x = (x @ part.view(shape).t()).relu()
        return (x @ parts[-1].view(self.shapes[-1]).t())[:, : self.outputs].half()


def test_fields_through_it_on_a_gpu_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of a whole field through the bindings' own kind of module, its parameters ours all the while."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("there is a real GPU")
    from imaginary import imaginary_gpu

    fake = ModuleType("tinycudann")
    fake.Encoding, fake.Network = Encoding, Network  # type: ignore[attr-defined]
    fake.__spec__ = importlib.machinery.ModuleSpec("tinycudann", None)
    monkeypatch.setitem(sys.modules, "tinycudann", fake)
    g = torch.Generator().manual_seed(0)
    places, view = torch.rand(60, 3, generator=g) * 1.8 - 0.9, torch.nn.functional.normalize(torch.randn(60, 3, generator=g), dim=-1)
    here = build(
        "hashgrid", {"levels": "3", "log2_table": "10", "base": "5", "finest": "40", "hidden": "16"}, Space((-1,) * 3, (1,) * 3), seed=0
    )
    with torch.no_grad():
        here.encoder.table.uniform_(-1.0, 1.0, generator=g)  # type: ignore[attr-defined]
    results = []
    with imaginary_gpu():
        kernels.set_kernels("tcnn")
        assert kernels.ops("cuda") is tcnn and "tcnn (tiny-cuda-nn), imaginary GPU" in kernels.explain("cuda")[0]
        for field, device in ((copy.deepcopy(here).to("cuda"), "cuda"), (here, "cpu")):
            if device == "cpu":
                kernels.set_kernels("reference")
            found = field.evaluate(places.to(device), view.to(device))
            (found.rgb.sum() + found.log_density.sum()).backward()
            gradients = [p.grad.cpu() for p in field.parameters() if p.grad is not None]
            assert field.evaluate(places[:0].to(device), view[:0].to(device)).rgb.shape == (0, 3), "no rows, which it cannot compute"
            results.append((found.rgb.detach().cpu(), found.log_density.detach().cpu(), gradients))
        used = tcnn._encoding.cache_info().currsize, tcnn._network.cache_info().currsize
        for cached in (tcnn._encoding, tcnn._network):
            cached.cache_clear()
    assert used == (3, 2), "every level and both networks went through it"
    (rgb, log_density, gradients), (expected, expected_log_density, wanted) = results
    assert relative(rgb, expected) < 5e-3 and relative(log_density, expected_log_density) < 5e-3
    assert len(gradients) == len(wanted) == 6
    assert all(relative(a, b) < 5e-2 for a, b in zip(gradients, wanted, strict=True))


def test_values_on_a_gpu(device: torch.device) -> None:
    if tcnn.why_not() is not None:
        pytest.skip(str(tcnn.why_not()))
    layout = grid_layout(HashGridOptions(levels=4, log2_table=12, base=5, finest=40))
    g = torch.Generator().manual_seed(0)
    table = torch.rand(layout.offsets[-1], layout.features, generator=g)
    unit, weights = torch.rand(500, 3, generator=g), head(g, 31, 64, 64, 3)
    found = tcnn.grid_encode(unit.to(device), table.to(device), layout)
    assert_close(found.cpu(), reference.grid_encode(unit, table, layout), 2e-3, "grid in half precision")
    x = torch.rand(500, 31, generator=g)
    assert_close(tcnn.small_mlp(x.to(device), tuple(w.to(device) for w in weights)).cpu(), reference.small_mlp(x, weights), 1e-1, "network")
