"""A dynamic field at one moment, whole or in part. No GUI.

``field.at(time)`` of a dynamic family is a field that stands still, which everything here can show, and ``field.part(name)``
is what stands still in it, or what moves.  Making one may take a moment itself, so the newest is kept for each field.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from ..errors import UserError
from ..representations.field import Field

PARTS = ("static", "dynamic")

_known: WeakKeyDictionary[Field, tuple[tuple[float, str | None], Field]] = WeakKeyDictionary()
_lock = threading.Lock()


def has_parts(field: Field) -> bool:
    """Whether a field says which part of it stands still, and which moves."""
    return field.dynamic and hasattr(field, "part")


def moment(field: Field, time: float | None, part: str | None = None) -> Field:
    """What a dynamic field is at ``time`` in [0, 1] (None: its start); a field that stands still is its own. From any thread.

    Args:
        part: one of :data:`PARTS`, or None for all of it.

    Raises:
        UserError: it has no parts.
    """
    if part is not None and not has_parts(field):
        raise UserError(f"this {field.family} field does not tell what moves from what stands still")
    if not field.dynamic:
        return field
    key = (0.0 if time is None else min(max(time, 0.0), 1.0), part)
    with _lock:
        found = _known.get(field)
    if found is None or found[0] != key:
        whole: Any = field
        found = (key, (whole if part is None else whole.part(part)).at(key[0]))
        with _lock:
            _known[field] = found
    return found[1]


def frame_count(field: Field) -> int | None:
    """How many times a dynamic field tells apart, where it says so."""
    count = getattr(field, "frames", None)
    return count if isinstance(count, int) and count > 1 else None


def moving_bits(field: Field) -> Tensor | None:
    """Occupied cells in which something moves, bool [R, R, R]; None where a field does not say."""
    split = getattr(field, "split", None)
    return split & field.occupancy.bits if isinstance(split, Tensor) else None
