"""Triton kernels compile to machine code for GPUs that need not be here; interpreting them cannot tell that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

CHILD = Path(__file__).parent / "compile_child.py"
SHARED = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 120: 99 << 10}
"""Shared memory a program may have, by compute capability (CUDA C++ Programming Guide, table of technical specifications)."""


def compiled(capability: int, *cases: str) -> list[dict[str, object]]:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, str(CHILD), str(capability), *cases], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    for kernel in kernels:
        assert kernel["shared"] <= SHARED[capability], kernel
    return kernels


def test_the_grid_for_hopper() -> None:
    kernels = {str(k["kernel"]): k for k in compiled(90, "grid")}
    assert {"encode_kernel", "scatter_kernel"} <= set(kernels)
    reads = kernels["encode_kernel"]["used"]["ld.global"]  # type: ignore[index]
    assert reads <= 80, "a row's four numbers are one read: 64 of them, and the levels"
    used = kernels["scatter_kernel"]["used"]
    adds = sum(used.get(name, 0) for name in ("red.global", "atom.global"))  # type: ignore[attr-defined]
    assert adds == 32, "a row's four numbers are one atomic addition: 128 x 8 levels x 8 corners of 256 threads"


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 89, 90])
def test_every_kernel(capability: int) -> None:
    used = [k["used"] for k in compiled(capability)]
    assert any("wgmma" in u or "mma" in u for u in used), "products run on tensor cores"  # type: ignore[operator]
