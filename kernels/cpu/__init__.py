"""The operations compiled for the CPU by Numba. Importing this package imports no Numba and compiles nothing.

How it is put together
    jit      decorators: ``device`` (called by compiled code), ``exact``, ``kernel`` (entry point, cached on disk)
    simd     dense layer, transpose, weight gradient as LLVM vectors; atomics
    pool     runs a kernel on several threads
    warm     compiles before it is needed, in ``children``
    mlp      networks on tiles of 64 samples, feature-major
    lattice  samples along a ray, skipping empty space
    half     storage with half precision
    fields   what a family provides; ``grid`` is the example, ``vm``, ``cp``, ``voxels``, ``hybrid``, ``saliency`` the others,
             ``query`` one moment of a time query, ``layered`` edited scenes made of them, ``voxels_half`` voxels to look at
    vec16    16 floats as one value; ``rows`` table rows of four; ``factors`` what vm and cp share
    plan     Lowered -> NamedTuple + sizes + where gradients go
    drive, drive_back   the fused renderer and its backward pass, for every family
    points   the same for single positions (evaluate, density)
    wide, render, pointwise, encode, factor_ops, voxel_ops, penalties,
    compositing, times, marching, optim   the operations themselves, seen from torch

To add a family
    1. a module with a ``NamedTuple`` of arrays and ``@overload`` of ``encode_tile``, ``handover_tile``,
       ``handover_backward`` and ``scatter_tile`` for it (and ``color_tile``, ``color_backward`` unless the
       family ends in PVD's 16 numbers: then call ``handover_family`` and give it ``weights``, ``color_at``, ``color_widths``);
    2. a planner in ``plan.PLANNERS`` (encoding type -> Plan) and, if some settings are not covered, a check in ``plan.CHECKS``;
    3. nothing else: ``render_rays``, ``evaluate``, ``evaluate_density`` and their gradients work for it.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

_HOME = {
    "Cancelled": "render",
    "CancelFlag": "render",
    "render_rays": "render",
    "adam_": "optim",
    "backbone": "wide",
    "box_range": "marching",
    "compile_part": "warm",
    "composite": "compositing",
    "composite_times": "times",
    "cp_products": "factor_ops",
    "evaluate": "pointwise",
    "evaluate_density": "pointwise",
    "grid_encode": "encode",
    "march": "marching",
    "mean_abs": "penalties",
    "networks_alone": "pointwise",
    "supports": "plan",
    "vm_products": "factor_ops",
    "voxel_interpolate": "voxel_ops",
    "warm_up": "warm",
}

_FAMILIES = ("cp", "grid", "hybrid", "layered", "query", "saliency", "vm", "voxels", "voxels_half")
"""Modules that register a family."""


def load() -> None:
    """Import Numba and the kernels' modules (about a second); nothing is compiled."""
    for module in {*_HOME.values(), *_FAMILIES}:
        importlib.import_module(f".{module}", __name__)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        load()  # every family registers itself: an operation must know them all
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif not name.startswith("_") and hasattr(reference := importlib.import_module("..reference", __name__), name):
        value = getattr(reference, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def describe() -> str:
    """Threads and cache folder, for ``fieldmorph info``."""
    import torch

    from .cache import user_cache

    try:
        folder = user_cache()
        there = next(p for p in (folder, *folder.parents) if p.exists())
        kept = (
            f"cache in {folder}"
            if there.is_dir() and os.access(there, os.W_OK | os.X_OK)
            else f"cache not in {folder}: it cannot be written"
        )
    except RuntimeError:  # no home folder
        kept = "cache in a temporary folder: there is no home folder"
    return f"{torch.get_num_threads()} threads of {os.cpu_count()}, {kept}"
