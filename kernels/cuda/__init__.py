"""The operations as Triton kernels for NVIDIA GPUs. Importing this package imports no Triton and compiles nothing.

How it is put together
    runtime    whether Triton can be used here, where it keeps what it compiles, how many programs a launch gets; ``probe`` tries it
    maths      small functions that kernels call: products, spherical harmonics, the way into the unit cube
    grid       multi-resolution grid: encode, and scatter with atomics
    network    the density and colour networks in one launch, forward and backward, on tensor cores
    factors    planes and lines (VM, CP); ``voxels`` the sparse grid
    optim      Adam, sparse or not, with the half-precision copy of a table kept up to date (``shadow``)
    pointwise  evaluate, evaluate_density: an encoding, then the networks, for every family
    marching, compositing   packed rays
    render     ``render_rays``: with gradients march, evaluate, composite; without, ``fused``: all of it in one launch

Every kernel is a loop over blocks of work that a fixed number of programs share, so that a launch fills the GPU
once; the number of samples may live on the device, so that a training step can be captured as a CUDA graph.

Networks work in float16 with float32 sums (``set_precision("single")``: float32 throughout, for tests); gradients
that enter a product are brought near 1 by a power of two first. Tables are read as float16, updated in float32.
Gradients of tables and planes are added with float32 atomics: their last bits differ from run to run.

Under ``TRITON_INTERPRET=1`` everything here runs on CPU tensors through NumPy: slow, and how the tests check it.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch

from .runtime import describe, precision, set_precision, why_not

__all__ = ["describe", "load", "precision", "set_precision", "why_not"]

_HOME = {
    "adam_": "optim",
    "composite": "compositing",
    "cp_products": "factors",
    "evaluate": "pointwise",
    "evaluate_density": "pointwise",
    "grid_encode": "grid",
    "march": "marching",
    "forget": "render",
    "rays_at_once": "render",
    "ready": "render",
    "render_rays": "render",
    "supports": "pointwise",
    "vm_products": "factors",
    "voxel_interpolate": "voxels",
}


@cache
def load() -> None:
    """Import Triton and the kernels' modules; where there is a GPU, see that Triton can use it. Raises what Triton raises."""
    from .runtime import prepare

    prepare()
    for module in sorted(set(_HOME.values())):
        importlib.import_module(f".{module}", __name__)
    if torch.cuda.is_available():
        importlib.import_module(".probe", __name__).probe()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        load()
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif not name.startswith("_") and hasattr(reference := importlib.import_module("..reference", __name__), name):
        value = getattr(reference, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
