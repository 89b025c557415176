"""Triton kernels of planes, lines, voxels and sums of them against the reference: values, gradients, rendering."""

from __future__ import annotations

import importlib

import pytest
import torch
from family_cases import (
    check_evaluate,
    check_operation,
    check_render,
    cp_encoding,
    lowered,
    unit_positions,
    vm_encoding,
    voxel_encoding,
    world_positions,
)
from kernel_cases import grid_field

from fieldmorph.kernels import cuda
from fieldmorph.kernels.lowered import HybridEncoding

pytest.importorskip("triton")

FAMILIES = {
    "vm": lambda: lowered(vm_encoding(density=16, color=24)),
    "cp": lambda: lowered(cp_encoding(density=32, color=24)),
    "voxels": lambda: lowered(voxel_encoding()),
    "hybrid": lambda: lowered(hybrid()),
}


def hybrid() -> HybridEncoding:
    grid = grid_field(4)
    return HybridEncoding(((grid.encoding, grid.density_head), (vm_encoding(density=16, color=16), ())))


def test_vm_products(device: torch.device, single: None) -> None:
    encoding = vm_encoding(color=24)
    factors = (encoding.color_planes, encoding.color_lines)
    check_operation(lambda module, unit, own: module.vm_products(unit, *own), factors, unit_positions(40), cuda, device)


def test_cp_products(device: torch.device, single: None) -> None:
    lines = cp_encoding(grid=(1, 14, 11)).color_lines
    check_operation(lambda module, unit, own: module.cp_products(unit, own), lines, unit_positions(40), cuda, device)


@pytest.mark.parametrize("empty", [0.0, -4.0])
def test_voxel_interpolate(empty: float, device: torch.device, single: None) -> None:
    encoding = voxel_encoding()
    links = encoding.links.to(device)

    def run(module: object, unit: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        return module.voxel_interpolate(unit, links.to(unit.device), data, empty)  # type: ignore[attr-defined, no-any-return]

    check_operation(run, encoding.sh, unit_positions(40), cuda, device)


@pytest.mark.parametrize("name", FAMILIES)
def test_evaluate(name: str, device: torch.device, single: None) -> None:
    check_evaluate(FAMILIES[name](), world_positions(30), cuda, device)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", [pytest.param("vm", marks=SLOW), pytest.param("cp", marks=SLOW), "voxels", pytest.param("hybrid", marks=SLOW)]
)
def test_render(name: str, device: torch.device, single: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("fieldmorph.kernels.cuda.render"), "SLICE", 16)  # pictures take several
    check_render(FAMILIES[name](), 12, cuda, device, steps=10)
