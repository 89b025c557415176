"""What is derived from tensors that seldom change: kept until they do."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor


class Derived:
    """Values derived from tensors, kept until one of them changes (torch's version counter) or dies."""

    def __init__(self, keep: int = 16) -> None:
        self._lock, self._keep = threading.Lock(), keep
        self._known: list[tuple[tuple[weakref.ref[Tensor], ...], tuple[int, ...], Any]] = []

    def of(self, tensors: tuple[Tensor, ...], make: Callable[[], Any]) -> Any:
        versions = tuple(tensor._version for tensor in tensors)
        with self._lock:
            self._known = [entry for entry in self._known if all(ref() is not None for ref in entry[0])]
            for refs, known, value in self._known:
                if known == versions and all(ref() is tensor for ref, tensor in zip(refs, tensors, strict=True)):
                    return value
        value = make()
        with self._lock:
            same = [entry for entry in self._known if not all(ref() is tensor for ref, tensor in zip(entry[0], tensors, strict=True))]
            self._known = [*same, (tuple(weakref.ref(tensor) for tensor in tensors), versions, value)][-self._keep :]
        return value
