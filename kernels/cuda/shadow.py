"""Half-precision copies of large parameters, and where the gradients of large parameters go."""

from __future__ import annotations

import threading
import weakref

import torch
from torch import Tensor

from .runtime import precision

_copies: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}
_lock = threading.Lock()


def stored(parameter: Tensor) -> Tensor:
    """What kernels read of a parameter: its float16 copy, made anew when the parameter has changed, or in single precision itself."""
    if precision() == "single":
        return parameter.detach()
    if not parameter.is_leaf:
        return parameter.detach().to(torch.float16)
    copy = current(parameter)
    if copy is None:
        with _lock:
            found = _copies.get(id(parameter))
        with torch.no_grad():
            if found is not None and found[0]() is parameter and found[2].shape == parameter.shape and found[2].device == parameter.device:
                copy = found[2].copy_(parameter)  # in its place: recorded steps read it there
            else:
                copy = parameter.detach().to(torch.float16)
        keep(parameter, copy)
    return copy


def drop(parameter: Tensor) -> None:
    """The copy no longer holds what the parameter holds."""
    with _lock:
        found = _copies.get(id(parameter))
        if found is not None:
            _copies[id(parameter)] = (found[0], -1, found[2])


def current(parameter: Tensor) -> Tensor | None:
    """The float16 copy if there is one that holds what the parameter holds now."""
    with _lock:
        found = _copies.get(id(parameter))
    if found is None or found[0]() is not parameter or found[1] != parameter._version or found[2].device != parameter.device:
        return None
    return found[2]


def keep(parameter: Tensor, copy: Tensor) -> None:
    """Remember ``copy`` as what the parameter holds now (its version counter says whether it still does)."""
    with _lock:
        for key in [key for key, (alive, _, _) in _copies.items() if alive() is None]:
            del _copies[key]
        _copies[id(parameter)] = (weakref.ref(parameter), parameter._version, copy)


def gradient_of(parameter: Tensor, in_place: bool) -> tuple[Tensor, Tensor | None]:
    """The zeroed or running gradient that a kernel adds to, and what backward returns for the parameter.

    In place, a leaf's own ``.grad`` is added to and nothing returned.
    """
    if in_place and parameter.is_leaf and parameter.requires_grad:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad.is_contiguous() and parameter.grad.dtype == torch.float32:
            return parameter.grad, None
    fresh = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
    return fresh, fresh
