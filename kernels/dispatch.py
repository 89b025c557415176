"""Which implementation of the operations is in use, and why."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

import torch

from ..errors import UserError

CHOICES = ("auto", "reference", "cpu", "cuda", "tcnn")

_choice = "auto"
_broken: str | None = None
"""Why the compiled kernels could not be loaded; remembered, so that a broken installation fails once."""
_broken_cuda: str | None = None
"""The same of the Triton kernels."""
_broken_tcnn: str | None = None
"""And of tiny-cuda-nn."""


class _Switch(threading.local):
    """Off, but for threads that are inside :meth:`within`."""

    on = False

    @contextmanager
    def within(self) -> Iterator[None]:
        before = self.on
        self.on = True
        try:
            yield
        finally:
            self.on = before


_in_place, _full = _Switch(), _Switch()


def set_kernels(name: str) -> None:
    """Choose the implementation for this process: "auto" (the fastest that works), "reference" (PyTorch), "cpu" (Numba),
    "cuda" (Triton) or "tcnn" (tiny-cuda-nn).

    All but the first two are about tensors on one kind of device; others are left to the reference.

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
    if name == "cuda":
        reason = _why_no_cuda()
        if reason is not None:
            raise UserError(f"the Triton kernels cannot be used: {reason}; use --kernels auto")
    if name == "tcnn":
        reason = _why_no_tcnn()
        if reason is not None:
            raise UserError(f"tiny-cuda-nn cannot be used: {reason}; use --kernels auto")
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


def _why_no_cuda() -> str | None:
    if _broken_cuda is not None:
        return _broken_cuda
    from .cuda import why_not

    return why_not()


def _why_no_tcnn() -> str | None:
    if _broken_tcnn is not None:
        return _broken_tcnn
    from .tcnn import why_not

    return why_not()


def _reference() -> ModuleType:
    from . import reference

    return reference


def ops(device: torch.device | str = "cpu") -> Any:
    """The namespace of operations (docs/architecture.md, "Kernels") to use for tensors on ``device``.

    Triton and tiny-cuda-nn launch on the thread's current GPU wherever their tensors are: ``device`` becomes the current one.
    """
    there = torch.device(device)
    kind = there.type
    if kind == "cpu" and _choice in ("auto", "cpu") and _why_no_cpu() is None:
        return _cpu()
    if kind == "cuda" and _choice != "reference":
        make_current(there)
    if kind == "cuda" and _choice in ("auto", "cuda") and _why_no_cuda() is None:
        return _cuda()
    if kind == "cuda" and _choice in ("auto", "tcnn") and _why_no_tcnn() is None:
        return _tcnn()
    return _reference()


def make_current(device: torch.device) -> None:
    """Make a GPU that is named by its number the thread's current one."""
    if device.index is not None and torch.cuda.is_available() and device.index != torch.cuda.current_device():
        torch.cuda.set_device(device)


def _cpu() -> Any:
    global _broken
    from . import cpu

    try:
        cpu.load()
    except Exception as error:  # numba or llvmlite themselves broken: any exception may come out of their import
        _broken = f"numba cannot be loaded ({type(error).__name__}: {error})"
        if _choice == "cpu":
            raise UserError(f"the compiled CPU kernels cannot be used: {_broken}; repair numba, or use --kernels reference") from error
        return _reference()
    return cpu


def _cuda() -> Any:
    global _broken_cuda
    from . import cuda

    try:
        cuda.load()
    except Exception as error:  # as above, of Triton
        _broken_cuda = f"Triton does not work here ({type(error).__name__}: {' '.join(str(error).split())})"
        if _choice == "cuda":
            raise UserError(f"the Triton kernels cannot be used: {_broken_cuda}; repair that, or use --kernels reference") from error
        warnings.warn(f"the Triton kernels cannot be used: {_broken_cuda}; what is used instead is slower", RuntimeWarning, stacklevel=3)
        return _tcnn() if _why_no_tcnn() is None else _reference()
    return cuda


def _tcnn() -> Any:
    global _broken_tcnn
    from . import tcnn

    try:
        tcnn.load()
    except Exception as error:  # built for another PyTorch or GPU
        _broken_tcnn = f"tinycudann cannot be loaded ({type(error).__name__}: {error})"
        if _choice == "tcnn":
            raise UserError(f"tiny-cuda-nn cannot be used: {_broken_tcnn}; repair it, or use --kernels auto") from error
        return _reference()
    return tcnn


def explain(device: torch.device | str = "cpu") -> list[str]:
    """Lines for ``fieldmorph info``: the implementation in use, then each other one and why it is not.

    Compiles nothing but, on a GPU, the kernel that shows whether Triton works there.
    """
    kind = torch.device(device).type
    if kind == "cuda" and _choice == "auto":
        ops(device)
    reasons = {"cuda": _why_no_cuda(), "tcnn": _why_no_tcnn(), "cpu": _why_no_cpu()}
    names = {"cuda": "Triton", "tcnn": "tiny-cuda-nn", "cpu": "Numba"}
    serving = {"cuda": ("cuda", "tcnn"), "cpu": ("cpu",)}.get(kind, ())
    used = next((n for n in serving if reasons[n] is None and _choice in ("auto", n)), None)
    if used is not None:
        described = importlib.import_module(f".{used}", __package__).describe()
        lines = [f"kernels: {used} ({names[used]}), {described}"]
    elif _choice == "reference":
        lines = ["kernels: reference (PyTorch), chosen by --kernels reference"]
    else:
        lines = [f"kernels: reference (PyTorch) on {kind}"]
    for name, reason in reasons.items():
        if name == used:
            continue
        if reason is not None:
            lines.append(f"  {name}: not available, {reason}")
        elif name not in serving:
            lines.append(f"  {name}: not used, the device is {kind}")
        else:
            lines.append(f"  {name}: available, not chosen")
    return lines


def gradients_in_place() -> AbstractContextManager[None]:
    """Within it, backward passes of fused operations recorded by this thread add table gradients straight to ``parameter.grad``.

    For training loops that call ``loss.backward()`` and then ``adam_``, which clears the gradient rows it used; saves
    allocating a table-sized gradient a step.  ``torch.autograd.grad`` does not see these gradients.  The reference ignores it.
    """
    return _in_place.within()


def gradients_are_in_place() -> bool:
    return _in_place.on


def full_precision() -> AbstractContextManager[None]:
    """Within it, pictures that this thread renders without gradients are computed from float32 numbers.

    Without it a family whose half-precision form is faster (voxels) uses that one; field files hold the same precision.
    """
    return _full.within()


def precision_is_full() -> bool:
    return _full.on
