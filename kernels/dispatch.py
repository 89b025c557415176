"""Which implementation of the operations is in use, and why."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from ..errors import UserError

CHOICES = ("auto", "reference", "cpu")

_choice = "auto"
_broken: str | None = None
"""Why the compiled kernels could not be loaded; remembered, so that a broken installation fails once."""
_in_place = threading.local()


def set_kernels(name: str) -> None:
    """Choose the implementation for this process: "auto" (the fastest that works), "reference" (PyTorch) or "cpu" (Numba).

    Raises:
        UserError: unknown name, or the compiled kernels were asked for and cannot be used.
    """
    global _choice
    if name not in CHOICES:
        raise UserError(f"unknown kernels {name!r}; choose one of {', '.join(CHOICES)}")
    if name == "cpu":
        reason = _why_no_cpu()
        if reason is not None:
            raise UserError(f"the compiled CPU kernels cannot be used: {reason}; install numba, or use --kernels reference")
    _choice = name


def chosen() -> str:
    """What :func:`set_kernels` was last given."""
    return _choice


def _why_no_cpu() -> str | None:
    if _broken is not None:
        return _broken
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    return None


def _reference() -> ModuleType:
    from . import reference

    return reference


def ops(device: torch.device | str = "cpu") -> Any:
    """The namespace of operations (docs/architecture.md, "Kernels") to use for tensors on ``device``."""
    global _broken
    if torch.device(device).type != "cpu" or _choice == "reference" or _why_no_cpu() is not None:
        return _reference()
    from . import cpu

    try:
        cpu.load()
    except Exception as error:  # numba or llvmlite themselves broken: any exception may come out of their import
        _broken = f"numba cannot be loaded ({type(error).__name__}: {error})"
        if _choice == "cpu":
            raise UserError(f"the compiled CPU kernels cannot be used: {_broken}; repair numba, or use --kernels reference") from error
        return _reference()
    return cpu


def explain(device: torch.device | str = "cpu") -> list[str]:
    """Lines for ``fieldmorph info``: the implementation in use, then each better one and why it is not. Compiles nothing."""
    lines = []
    kind = torch.device(device).type
    reason = _why_no_cpu()
    if kind != "cpu":
        lines.append(f"kernels: reference (PyTorch) on {kind}")
        lines.append(f"  cpu: not used, the device is {kind}")
        return lines
    if _choice == "reference":
        lines.append("kernels: reference (PyTorch), chosen by --kernels reference")
        lines.append("  cpu: " + ("available" if reason is None else f"not available, {reason}"))
    elif reason is not None:
        lines.append("kernels: reference (PyTorch)")
        lines.append(f"  cpu: not available, {reason}")
    else:
        from .cpu import describe

        lines.append(f"kernels: cpu (Numba), {describe()}")
    lines.append("  cuda: not used, " + ("the device is cpu" if torch.cuda.is_available() else "no CUDA device"))
    return lines


@contextmanager
def gradients_in_place() -> Iterator[None]:
    """Within it, backward passes of fused operations recorded by this thread add table gradients straight to ``parameter.grad``.

    For training loops that call ``loss.backward()`` and then ``adam_``, which clears the gradient rows it used; saves
    allocating a table-sized gradient a step.  ``torch.autograd.grad`` does not see these gradients.  The reference ignores it.
    """
    before = gradients_are_in_place()
    _in_place.on = True
    try:
        yield
    finally:
        _in_place.on = before


def gradients_are_in_place() -> bool:
    return getattr(_in_place, "on", False)
