"""Where Triton kernels are tested: on a GPU where PyTorch sees one, else interpreted (see the tests' top conftest)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    """A GPU, or the CPU where kernels are interpreted."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def single() -> Iterator[None]:
    """Triton kernels compute in float32, to be compared closely."""
    from fieldmorph.kernels import cuda

    cuda.set_precision("single")
    yield
    cuda.set_precision("half")
