"""Whether Triton's kernels run here at all: it needs a C compiler at run time, and knows some GPUs and drivers but not others."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def doubled(source, out, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(out + at, tl.load(source + at) * 2.0)


def probe() -> None:
    """Compile and run the least kernel on the current GPU.

    Raises:
        Exception: whatever Triton raises, or a RuntimeError where the kernel's result is wrong.
    """
    source = torch.arange(16, dtype=torch.float32, device="cuda")
    out = torch.zeros_like(source)
    doubled[(1,)](source, out, B=16)
    if out.tolist() != [2.0 * n for n in range(16)]:
        raise RuntimeError("a kernel that doubles numbers does not")
