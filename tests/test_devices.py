"""What --device and --kernels say where they cannot be followed."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from fieldmorph.errors import UserError
from fieldmorph.scripts.options import choose

HIDDEN = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize("name", ["", "nonsense", "meta", "cpu:3", "cuda:x", "cuda:-1", "CUDA"])
def test_no_such_device(name: str) -> None:
    with pytest.raises(UserError, match="there is no such device; choose auto, cpu, cuda or cuda:N"):
        choose(name, "auto")


@HIDDEN
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_no_gpu(name: str) -> None:
    with pytest.raises(UserError, match=rf"--device {name} cannot be used here: .*PyTorch.*or use --device auto$"):
        choose(name, "auto")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_no_mps() -> None:
    with pytest.raises(UserError, match=r"^--device mps cannot be used here: PyTorch sees no such device; use --device auto$"):
        choose("mps", "auto")


def test_gpus_and_kernels_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [torch.device("cuda", 0)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)  # what both GPUs have room for
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0) if current[0].index == 1 else (7, 5))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0].index)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.__setitem__(0, device))
    with pytest.raises(UserError, match="the last GPU is cuda:1"):
        choose("cuda:2", "auto")
    if importlib.util.find_spec("triton") is not None:
        with pytest.raises(UserError, match=r"capability is 7\.5"):
            choose("cuda:0", "cuda")
        assert choose("cuda:1", "cuda") == torch.device("cuda", 1), "which is asked, not the first"
        with pytest.raises(UserError, match="--kernels cuda compute on a GPU, and --device cpu is none; add --device cuda"):
            choose("cpu", "cuda")
    with pytest.raises(UserError, match="--kernels cpu compute on the CPU, and --device cuda:1 is another; add --device cpu"):
        choose("cuda:1", "cpu")
