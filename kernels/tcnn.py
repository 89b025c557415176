"""Grids and networks by tiny-cuda-nn, where its PyTorch bindings (``tinycudann``) are installed and there is a GPU.

The parameters stay ours: a field trained with this loads and renders without it, and the other way round.  That takes
care in two places, by the layout that tiny-cuda-nn's sources document (grid.h, common_device.h, fully_fused_mlp.cu):

* A grid level of its *scale* s looks at vertex position ``x * s + 0.5``, where ours looks at ``x * r``: the lattices of
  its levels are shifted against each other by half a cell.  So each of our levels becomes a grid of one level with
  scale r (its ``base_resolution`` r + 1, from which it subtracts one), read at ``x - 0.5 / r``.  Rows, rounding of dense
  levels up to multiples of 8, hash and primes are then the same, and so is the order of the numbers.
* A network's matrices are ours, [out, in] row by row, one after the other, their inputs and outputs padded to
  multiples of 16 with zeros.

Edited scenes, planes, lines and voxels are left to the reference.
"""

from __future__ import annotations

import importlib.util
import math
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from . import reference
from .lowered import HASHED, TILED, GridLayout, Lowered
from .reference_encode import clamp_unit

_lock = threading.Lock()
WIDTHS = (16, 32, 64, 128)
"""Hidden widths of its fully fused networks."""


def why_not() -> str | None:
    """Why tiny-cuda-nn cannot be used here, or None."""
    if importlib.util.find_spec("tinycudann") is None:
        return "tinycudann is not installed"
    if not torch.cuda.is_available():
        return "no NVIDIA GPU is visible to PyTorch"
    return None


def load() -> None:
    """Import the bindings. Raises what the import raises."""
    import tinycudann  # noqa: F401


def describe() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def supports(lowered: Lowered) -> str | None:
    """It offers no fused renderer: fields are rendered by the reference path over its encodings and networks."""
    return "tiny-cuda-nn serves encodings and networks, not whole fields"


def level_config(resolution: int, rows: int, kind: int, features: int) -> dict[str, Any]:
    """The configuration of the one-level grid that is a level of ours."""
    return {
        "otype": "Grid",
        "type": "Hash" if kind == HASHED else "Dense",
        "n_levels": 1,
        "n_features_per_level": features,
        "log2_hashmap_size": max(3, math.ceil(math.log2(rows))),
        "base_resolution": resolution + 1,
        "per_level_scale": 1.0,
        "interpolation": "Linear",
    }


def documented_rows(config: dict[str, Any]) -> tuple[int, bool]:
    """How many rows tiny-cuda-nn gives a one-level grid, and whether it hashes them."""
    scale = float(config["base_resolution"]) - 1.0
    vertices = (math.ceil(scale) + 1) ** 3
    rows = -(-vertices // 8) * 8
    if config["type"] == "Hash":
        rows = min(rows, 1 << config["log2_hashmap_size"])
    return rows, config["type"] == "Hash" and rows < vertices


def why_not_grid(layout: GridLayout) -> str | None:
    """Why tiny-cuda-nn cannot hold a grid, or None."""
    if TILED in layout.kinds:
        return "tiny-cuda-nn's tiled grids repeat at another length"
    if layout.features not in (1, 2, 4, 8):
        return f"tiny-cuda-nn has no grid of {layout.features} numbers a row"
    for resolution, kind, rows in levels(layout):
        if documented_rows(level_config(resolution, rows, kind, layout.features)) != (rows, kind == HASHED):
            return f"tiny-cuda-nn gives a level of resolution {resolution} other than {rows} rows"
    return None


def levels(layout: GridLayout) -> list[tuple[int, int, int]]:
    """Resolution, kind and rows of each level."""
    rows = [b - a for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]
    return list(zip(layout.resolutions, layout.kinds, rows, strict=True))


def grid_to_native(table: Tensor, layout: GridLayout) -> list[Tensor]:
    """Each level's parameters as tiny-cuda-nn holds them, flat; views of the table."""
    return [table[a:b].reshape(-1) for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]


def grid_from_native(parameters: Sequence[Tensor], layout: GridLayout) -> Tensor:
    """The table [rows, F] of each level's flat parameters."""
    return torch.cat([part.reshape(-1, layout.features) for part in parameters])


def _padded(size: int) -> int:
    return -(-size // 16) * 16


def network_to_native(weights: Sequence[Tensor]) -> Tensor:
    """Matrices [out, in] as the flat parameters of a fully fused network; differentiable."""
    parts = []
    for weight in weights:
        out, inside = weight.shape
        parts.append(torch.nn.functional.pad(weight, (0, _padded(inside) - inside, 0, _padded(out) - out)).reshape(-1))
    return torch.cat(parts)


def network_from_native(flat: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Inverse of :func:`network_to_native` for matrices of ``shapes`` (out, in)."""
    sizes = [_padded(out) * _padded(inside) for out, inside in shapes]
    if sum(sizes) != flat.numel():
        raise ValueError(f"{flat.numel()} parameters do not make up matrices of {list(shapes)}, which take {sum(sizes)}")
    parts = zip(torch.split(flat, sizes), shapes, strict=True)
    return [part.reshape(_padded(out), _padded(inside))[:out, :inside].clone() for part, (out, inside) in parts]


def why_not_network(weights: Sequence[Tensor]) -> str | None:
    """Why these matrices are no fully fused network, or None."""
    hidden = {w.shape[0] for w in weights[:-1]}
    if len(hidden) != 1 or not hidden <= set(WIDTHS):
        return f"tiny-cuda-nn's fused networks have hidden layers of one width of {', '.join(map(str, WIDTHS))}"
    return None


@cache
def _encoding(resolution: int, rows: int, kind: int, features: int) -> Any:
    import tinycudann

    return tinycudann.Encoding(3, level_config(resolution, rows, kind, features))


@cache
def _network(inside: int, hidden: int, layers: int, out: int) -> Any:
    import tinycudann

    config = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": hidden, "n_hidden_layers": layers}
    return tinycudann.Network(inside, out, config)


def _called(module: Any, parameters: Tensor, x: Tensor) -> Tensor:
    """What a module answers with other parameters; they are swapped for the call, and a viewer's thread shares modules with training.

    Of no rows it must not be asked: it divides by their number.
    """
    with _lock:
        found: Tensor = functional_call(module, {"params": parameters}, (x,))
    return found


def shifted(unit: Tensor, resolution: int) -> Tensor:
    """Where tiny-cuda-nn has to look to see what is at clamped unit coordinates of a level of ours."""
    return unit - 0.5 / resolution


def grid_encode(unit: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    """Multi-resolution grid lookup [N, L * F]; see :func:`reference.grid_encode`."""
    if not unit.is_cuda or not len(unit) or table.dtype != torch.float32 or why_not_grid(layout) is not None:
        return reference.grid_encode(unit, table, layout)
    unit = clamp_unit(unit)
    found = []
    for (resolution, kind, rows), parameters in zip(levels(layout), grid_to_native(table, layout), strict=True):
        module = _encoding(resolution, rows, kind, layout.features)
        found.append(_called(module, parameters, shifted(unit, resolution))[:, : layout.features])
    return torch.cat(found, -1).to(table.dtype)


def small_mlp(x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """Bias-free layers [out, in] with ReLU between them; see :func:`reference.small_mlp`."""
    if not x.is_cuda or not len(x) or x.dtype != torch.float32 or why_not_network(weights) is not None:
        return reference.small_mlp(x, weights)
    module = _network(weights[0].shape[1], weights[0].shape[0], len(weights) - 1, weights[-1].shape[0])
    return _called(module, network_to_native(weights), x).to(x.dtype)


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and hasattr(reference, name):
        return getattr(reference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["describe", "grid_encode", "grid_from_native", "grid_to_native", "load", "network_from_native",
           "network_to_native", "small_mlp", "supports", "why_not"]  # fmt: skip
