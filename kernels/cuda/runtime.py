"""Whether and how Triton is used here. Imports no Triton until :func:`prepare`."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..cpu.cache import user_cache

LEAST = (8, 0)
"""The oldest compute capability whose tensor cores Triton's products use."""
JOINED = (9, 10, 11)
"""Compute capabilities, by their first number, whose tensor cores read operands from shared memory, of which there is plenty."""
PER_MULTIPROCESSOR = 8
"""Programs a launch gets for each multiprocessor; they share out the blocks of work."""

_precision: Literal["half", "single"] = "half"


def interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU instead of compiling them; Triton reads this once, at its import."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not() -> str | None:
    """Why these kernels cannot be used here, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not torch.cuda.is_available():
        return "no NVIDIA GPU is visible to PyTorch"
    major, minor = torch.cuda.get_device_capability()
    if (major, minor) < LEAST:
        return f"the GPU's compute capability is {major}.{minor}, and the Triton kernels need {LEAST[0]}.{LEAST[1]}"
    return None


def describe() -> str:
    """GPU and cache folder, for ``fieldmorph info``."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "interpreted on the CPU"
    return f"{name}, cache in {os.environ.get('TRITON_CACHE_DIR') or user_cache() / 'triton'}"


def set_precision(name: Literal["half", "single"]) -> None:
    """ "half": float16 factors and tables, float32 sums. "single": float32 throughout, for comparison."""
    global _precision
    if name not in ("half", "single"):
        raise ValueError(f"unknown precision {name!r}; half or single")
    _precision = name


def precision() -> Literal["half", "single"]:
    """What :func:`set_precision` was last given."""
    return _precision


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Machine code is loaded from here: somebody else's folder must not be trusted.
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder() -> Path:
    """Where Triton may keep compiled kernels: the user's cache, else a temporary folder of this user, else one of this process."""
    candidates = []
    try:
        candidates.append(user_cache() / "triton")
    except RuntimeError:  # no home folder at all
        pass
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    candidates.append(Path(tempfile.gettempdir()) / f"fieldmorph-{owner}" / "triton")
    return next((folder for folder in candidates if _writable(folder)), None) or Path(tempfile.mkdtemp(prefix="fieldmorph-triton-"))


@cache
def prepare() -> None:
    """Settle Triton's cache folder, then import it. Raises what the import raises."""
    if not os.environ.get("TRITON_CACHE_DIR"):
        os.environ["TRITON_CACHE_DIR"] = str(cache_folder())
    # Triton 3.9 asks whether products and sums may be fused, and warns where nobody says.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    import triton  # noqa: F401


@cache
def _multiprocessors(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def joined(device: torch.device) -> bool:
    """Whether one program can hold the backward passes of both networks.

    Elsewhere (Ampere, Ada, the GeForce GPUs among Blackwell) they would spill kilobytes a thread and, on GeForce GPUs, want
    more shared memory than the 99 KB there are: density and colour are then launched one after the other.
    """
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] in JOINED


def programs(blocks: int, device: torch.device, each: int = PER_MULTIPROCESSOR) -> tuple[int]:
    """Launch grid for ``blocks`` blocks of work."""
    most = _multiprocessors(device.index or 0) * each if device.type == "cuda" else 2
    return (max(1, min(blocks, most)),)


def serves(*tensors: Tensor) -> bool:
    """Whether kernels can work on these float32 tensors: all on one GPU, or on the CPU while interpreting."""
    first = tensors[0].device
    there = first.type == "cuda" or (first.type == "cpu" and interpreted())
    return there and all(t.dtype == torch.float32 and t.device == first for t in tensors)


def power(number: int, least: int = 1) -> int:
    """The smallest power of two that is at least both."""
    return max(least, 1 << max(0, number - 1).bit_length())


@cache
def integers(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """A small int32 tensor, made once."""
    return torch.tensor(numbers, dtype=torch.int32, device=device)


@cache
def floats(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """A small float32 tensor, made once."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)
