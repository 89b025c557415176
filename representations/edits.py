"""Region edits: what is said about a field without touching its parameters, as text, as JSON, as data.

A list of edits is applied in order, each to what the ones before it left:

    delete REGION                                    nothing is there any more
    keep REGION                                      nothing is anywhere else
    recolour REGION to COLOUR [amount A]             another colour, light and shade stay
    move REGION [by X Y Z] [rotate AXIS DEGREES] [scale S]
    duplicate REGION [by X Y Z] [rotate AXIS DEGREES] [scale S]
    insert FIELD [by X Y Z] [rotate AXIS DEGREES] [scale S]

REGION is ``box X0 Y0 Z0 X1 Y1 Z1`` or ``sphere X Y Z RADIUS`` in world units, COLOUR ``#rrggbb`` or three numbers in
[0, 1], AXIS x, y or z.  Turning and scaling happen about the middle of the region (of an inserted field: of its box),
then the content is shifted.  Content that arrives where something is already adds to it, as two fogs would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import UserError, did_you_mean
from .space import Vec3

Kind = Literal["delete", "keep", "recolour", "move", "duplicate", "insert"]
KINDS: tuple[Kind, ...] = ("delete", "keep", "recolour", "move", "duplicate", "insert")
MOST = 256
"""Edits a field may carry."""
_ALIASES = {"erase": "delete", "crop": "keep", "recolor": "recolour", "copy": "duplicate", "add": "insert"}
_AXES: dict[str, Vec3] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_LIMIT = 1e9


@dataclass(frozen=True)
class Region:
    """A box (numbers: lower corner, upper corner) or a sphere (numbers: centre, radius), world units."""

    shape: Literal["box", "sphere"]
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        wanted = {"box": 6, "sphere": 4}.get(self.shape)
        if wanted is None:
            raise UserError(f"a region is a box or a sphere, not {self.shape!r}")
        if len(self.numbers) != wanted:
            raise UserError(f"a {self.shape} needs {wanted} numbers, got {len(self.numbers)}")
        if not all(math.isfinite(n) and abs(n) < _LIMIT for n in self.numbers):
            raise UserError(f"the {self.shape} {_plain(self.numbers)} holds a number that is not finite")
        if self.shape == "box" and not all(a < b for a, b in zip(self.numbers[:3], self.numbers[3:], strict=True)):
            raise UserError(f"the box {_plain(self.numbers)} is empty; give its lower corner, then its upper one")
        if self.shape == "sphere" and self.numbers[3] <= 0.0:
            raise UserError(f"the sphere {_plain(self.numbers)} is empty; its radius comes last and must be more than 0")

    @property
    def centre(self) -> Vec3:
        if self.shape == "sphere":
            return self.numbers[0], self.numbers[1], self.numbers[2]
        x, y, z = (0.5 * (a + b) for a, b in zip(self.numbers[:3], self.numbers[3:], strict=True))
        return x, y, z

    @property
    def half(self) -> Vec3:
        """Half the sides of the box, or the radius three times."""
        if self.shape == "sphere":
            return self.numbers[3], self.numbers[3], self.numbers[3]
        x, y, z = (0.5 * (b - a) for a, b in zip(self.numbers[:3], self.numbers[3:], strict=True))
        return x, y, z


@dataclass(frozen=True)
class Edit:
    """One edit; what its kind does not use keeps the default."""

    kind: Kind
    region: Region | None = None
    """Where; None of an insertion alone."""
    by: Vec3 = (0.0, 0.0, 0.0)
    """Shift of moved, duplicated or inserted content, world units."""
    axis: Vec3 = (0.0, 0.0, 1.0)
    degrees: float = 0.0
    """Turn about ``axis`` through the middle, counter-clockwise seen against the axis."""
    scale: float = 1.0
    color: Vec3 | None = None
    """sRGB in [0, 1] of a recolouring."""
    amount: float = 1.0
    """Share of the new colour."""
    field: int = 0
    """Which of the inserted fields."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"there is no edit {self.kind!r}; {did_you_mean(self.kind, KINDS)}")
        if (self.region is None) != (self.kind == "insert"):
            raise UserError(f"{self.kind} takes {'no region' if self.region else 'a region: box or sphere'}")
        if (self.color is None) != (self.kind != "recolour"):
            raise UserError(f"{self.kind} takes {'a colour: to #rrggbb' if self.color is None else 'no colour'}")
        numbers = (*self.by, *self.axis, self.degrees, self.scale, self.amount, *(self.color or ()))
        if not all(math.isfinite(n) and abs(n) < _LIMIT for n in numbers):
            raise UserError(f"{self.kind} holds a number that is not finite")
        if not 1e-3 <= self.scale <= 1e3:
            raise UserError(f"{self.kind}: scale must lie between 0.001 and 1000, got {self.scale:g}")
        if not 0.0 <= self.amount <= 1.0:
            raise UserError(f"{self.kind}: amount must lie between 0 and 1, got {self.amount:g}")
        if self.color is not None and not all(0.0 <= c <= 1.0 for c in self.color):
            raise UserError(f"{self.kind}: a colour has numbers between 0 and 1, got {_plain(self.color)}")
        if math.hypot(*self.axis) < 1e-6:
            raise UserError(f"{self.kind}: the axis of a turn must not be zero")

    @property
    def places(self) -> bool:
        """Whether content arrives somewhere."""
        return self.kind in ("move", "duplicate", "insert")


def _plain(numbers: Sequence[float]) -> str:
    return " ".join(f"{n:.9g}" for n in numbers)


def describe(edit: Edit) -> str:
    """The edit as a command, which :func:`parse_edit` reads again (an insertion by the number of its field)."""
    words: list[str] = [edit.kind]
    if edit.region is not None:
        words += [edit.region.shape, _plain(edit.region.numbers)]
    else:
        words += [str(edit.field)]
    if edit.color is not None:
        words += ["to", _plain(edit.color)] + ([f"amount {edit.amount:.9g}"] if edit.amount != 1.0 else [])
    if any(edit.by):
        words += ["by", _plain(edit.by)]
    if edit.degrees:
        name = next((name for name, axis in _AXES.items() if axis == edit.axis), _plain(edit.axis))
        words += ["rotate", name, f"{edit.degrees:.9g}"]
    if edit.scale != 1.0:
        words += ["scale", f"{edit.scale:.9g}"]
    return " ".join(words)


def edit_to_json(edit: Edit) -> dict[str, Any]:
    """The edit as plain JSON: only what its kind uses."""
    out: dict[str, Any] = {"do": edit.kind}
    if edit.region is not None:
        out[edit.region.shape] = list(edit.region.numbers)
    if edit.kind == "insert":
        out["field"] = edit.field
    if edit.color is not None:
        out |= {"color": list(edit.color), "amount": edit.amount}
    if edit.places:
        out |= {"by": list(edit.by), "rotate": [*edit.axis, edit.degrees], "scale": edit.scale}
    return out


_COMMON = {"do"}
_REGION = {"box", "sphere"}
_PLACING = {"by", "rotate", "scale"}
_KEYS: dict[str, set[str]] = {
    "delete": _COMMON | _REGION,
    "keep": _COMMON | _REGION,
    "recolour": _COMMON | _REGION | {"color", "amount"},
    "move": _COMMON | _REGION | _PLACING,
    "duplicate": _COMMON | _REGION | _PLACING,
    "insert": _COMMON | _PLACING | {"field"},
}


def edit_from_json(value: Any) -> Edit:
    """The inverse of :func:`edit_to_json`, for files written by hand too: "color" may be "#rrggbb", what is left out has its default.

    Raises:
        UserError: with a sentence that names the key.
    """
    if not isinstance(value, dict) or not isinstance(value.get("do"), str):
        raise UserError('an edit is a JSON object with the key "do": one of ' + ", ".join(KINDS))
    kind = _kind(value["do"])
    unknown = sorted(set(value) - _KEYS[kind])
    if unknown:
        raise UserError(f"{kind} does not know {', '.join(map(repr, unknown))[:200]}; it takes {', '.join(sorted(_KEYS[kind] - _COMMON))}")
    shapes = [name for name in ("box", "sphere") if name in value]
    if len(shapes) > 1:
        raise UserError(f"{kind} has both a box and a sphere; make two edits of it")
    region = Region(shapes[0], _numbers(value, shapes[0], None)) if shapes else None  # type: ignore[arg-type]
    turn = _numbers(value, "rotate", 4) if "rotate" in value else (0.0, 0.0, 1.0, 0.0)
    field = value.get("field", 0)
    if type(field) is not int or not 0 <= field < MOST:
        raise UserError(f"insert: 'field' must be the number of an inserted field, got {field!r:.40}")
    return Edit(
        kind,
        region,
        by=_three(_numbers(value, "by", 3)) if "by" in value else (0.0, 0.0, 0.0),
        axis=_three(turn),
        degrees=turn[3],
        scale=_numbers({"scale": [value["scale"]]}, "scale", 1)[0] if "scale" in value else 1.0,
        color=_color(value["color"]) if "color" in value else None,
        amount=_numbers({"amount": [value["amount"]]}, "amount", 1)[0] if "amount" in value else 1.0,
        field=field,
    )


def _kind(word: str) -> Kind:
    kind = _ALIASES.get(word.lower(), word.lower())
    if kind not in KINDS:
        raise UserError(f"there is no edit {word[:40]!r}; {did_you_mean(kind, KINDS)}")
    return kind


def _three(numbers: Sequence[float]) -> Vec3:
    return numbers[0], numbers[1], numbers[2]


def _numbers(value: dict[str, Any], key: str, count: int | None) -> tuple[float, ...]:
    given = value[key]
    ok = isinstance(given, list) and (count is None or len(given) == count)
    if not ok or not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < _LIMIT for n in given):
        raise UserError(f"{value.get('do', 'an edit')}: {key!r} must be {count or 'a list of'} numbers, got {given!r:.60}")
    return tuple(float(n) for n in given)


def _color(value: Any) -> Vec3:
    if isinstance(value, str):
        digits = value.removeprefix("#")
        if len(digits) == 6 and all(c in "0123456789abcdefABCDEF" for c in digits):
            r, g, b = (int(digits[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
            return r, g, b
        raise UserError(f"a colour is #rrggbb or three numbers in [0, 1], got {value[:40]!r}")
    return _three(_numbers({"color": value}, "color", 3))


def parse_edit(text: str) -> tuple[Edit, str | None]:
    """An edit from a command, and of an insertion the field's path as written (``Edit.field`` is then 0).

    Raises:
        UserError: a sentence that names the word.
    """
    words = text.split()
    if not words:
        raise UserError(f"an edit is a command that begins with one of {', '.join(KINDS)}")
    kind, rest = _kind(words[0]), words[1:]
    value: dict[str, Any] = {"do": kind}
    path = None
    if kind == "insert":
        if not rest:
            raise UserError(f"{text!r}: name the field file to insert")
        path = rest.pop(0)
    while rest:
        word = rest.pop(0).lower()
        word = {"colour": "to", "color": "to", "turn": "rotate", "shift": "by"}.get(word, word)
        key = "color" if word == "to" else word
        if key not in _KEYS[kind] - _COMMON:
            known = sorted(("to" if k == "color" else k) for k in _KEYS[kind] - _COMMON - {"field"})
            raise UserError(f"{text!r}: {kind} does not know {word!r}; {did_you_mean(word, known)}")
        if key in value:
            raise UserError(f"{text!r}: {word} is given twice")
        if key == "rotate" and rest and rest[0].lower() in _AXES:
            value[key] = [*_AXES[rest.pop(0).lower()], *_take(text, word, rest, 1)]
        elif key == "color" and rest and rest[0].startswith("#"):
            value[key] = rest.pop(0)
        else:
            counts = {"box": 6, "sphere": 4, "by": 3, "color": 3, "rotate": 4, "scale": 1, "amount": 1}
            numbers = _take(text, word, rest, counts[key])
            value[key] = numbers[0] if key in ("scale", "amount") else numbers
    try:
        return edit_from_json(value), path
    except UserError as error:
        raise UserError(f"{text!r}: {error}") from None


def _take(text: str, word: str, rest: list[str], count: int) -> list[float]:
    taken = rest[:count]
    del rest[:count]
    try:
        numbers = [float(t.strip(",")) for t in taken]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UserError(f"{text!r}: {word} needs {count} number{'s' if count > 1 else ''}, got {' '.join(taken) or 'nothing'}")
    return numbers
