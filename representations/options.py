"""Options of the families: frozen dataclasses of plain values, read strictly from mappings and from ``key=value`` text."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import UserError


@dataclass(frozen=True)
class FieldOptions:
    """Options every family has."""

    occupancy: int = 128
    """Cells along each side of the occupancy grid."""

    def __post_init__(self) -> None:
        self.require(1 <= self.occupancy <= 256, "occupancy", "1 to 256")

    def require(self, ok: bool, name: str, allowed: str) -> None:
        """Refuse a value: raises UserError naming the option, what it got and what is allowed."""
        if not ok:
            raise UserError(f"option {name}={getattr(self, name)!r} is not possible: allowed is {allowed}")


OptionsT = TypeVar("OptionsT", bound=FieldOptions)


def options_from(cls: type[OptionsT], values: Mapping[str, Any], text: bool = True) -> OptionsT:
    """Options ``cls`` with ``values`` in place of defaults; every value is checked against its field's type.

    With ``text``, text is converted (``"8"`` for an int, ``"true"`` for a bool, ``"1,2,3"`` for a tuple), so that
    ``--set key=value`` can be read as well as JSON.

    Raises:
        UserError: unknown names (all of them, sorted), a value of the wrong type, NaN or infinity, or out of range.
    """
    hints = get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(str(name) for name in set(values) - names)
    if unknown:
        raise UserError(f"unknown option{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    return cls(**{name: _convert(hints[name], value, name, text) for name, value in values.items()})


def options_to_json(options: Any) -> dict[str, Any]:
    """The options as JSON-able values, in the order of their declaration."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _wrong(name: str, value: Any, wanted: str) -> UserError:
    shown = repr(value)
    return UserError(f"option {name} must be {wanted}, got {shown if len(shown) < 60 else shown[:57] + '...'}")


def _convert(kind: Any, value: Any, name: str, text: bool) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise _wrong(name, value, "one of " + ", ".join(map(str, get_args(kind))))
        return value
    if origin in (Union, types.UnionType):
        if value is None or (text and value == "none"):
            return None
        return _convert(next(a for a in get_args(kind) if a is not type(None)), value, name, text)
    if origin is tuple:
        parts = value.split(",") if text and isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or len(parts) > 64:
            raise _wrong(name, value, "a short list")
        inner = get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_convert(inner[0], part, name, text) for part in parts if part != "")
        if len(parts) != len(inner):
            raise _wrong(name, value, f"a list of {len(inner)}")
        return tuple(_convert(k, part, name, text) for k, part in zip(inner, parts, strict=True))
    if kind is bool:
        if text and isinstance(value, str) and value.lower() in ("true", "false", "yes", "no", "1", "0"):
            return value.lower() in ("true", "yes", "1")
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
        return value
    if kind in (int, float):
        return _number(kind, value, name, text)
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    return value


def _number(kind: type, value: Any, name: str, text: bool) -> Any:
    wanted = "a whole number" if kind is int else "a finite number"
    if text and isinstance(value, str):
        try:
            value = kind(value.strip())
        except ValueError:
            raise _wrong(name, value, wanted) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, value, wanted)
    if kind is int and not isinstance(value, int):
        raise _wrong(name, value, wanted)
    if isinstance(value, int) and abs(value) > 1 << 53:
        raise _wrong(name, value, wanted)
    if not math.isfinite(value):
        raise _wrong(name, value, wanted)
    return kind(value)
