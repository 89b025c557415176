"""The JSON description inside a field file, checked key by key."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .edited import EditedField
from .edits import MOST, Edit, edit_from_json, edit_to_json
from .field import Field
from .options import FieldOptions, options_from, options_to_json
from .registry import get_family
from .space import Space

MASK = "encoder.mask"
"""The bits that are left of a learned saliency grid."""
FORMAT = (1, 1)
"""1.1 added edits; a file without any is still written as 1.0."""
MOST_INSERTED = 16
_KEYS = ("format", "family", "options", "space", "layout", "background", "edits", "tensors", "metadata")


class TensorEntry(NamedTuple):
    """How one tensor is stored, and what it decodes to."""

    codec: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """What fixes the shapes of one field's tensors."""

    family: str
    options: FieldOptions
    space: Space
    layout: dict[str, Any]
    background: bool


@dataclass(frozen=True)
class Header(Part):
    """A field file's description. Everything but the tensors' numbers."""

    format: tuple[int, int]
    tensors: dict[str, TensorEntry]
    edits: tuple[Edit, ...] = ()
    inserted: tuple[Part, ...] = ()
    """The other fields that ``edits`` insert."""
    metadata: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    """Bytes of the whole file."""

    @property
    def parameters(self) -> int:
        """:attr:`Field.numbers`; the occupancy grid is not counted."""
        learned = [t for n, t in self.tensors.items() if (t.dtype == "float32" and not n.startswith("occupancy.")) or n == MASK]
        return sum(math.prod(t.shape) for t in learned)


def header_text(field: Field, tensors: dict[str, dict[str, Any]]) -> str:
    """The description of a field, as it goes into its file.

    Raises:
        ValueError: ``field.metadata`` is not plain JSON.
    """
    base, edits, inserted = (field.base, field.edits, field.sources[1:]) if isinstance(field, EditedField) else (field, (), [])
    description = {
        "format": list(FORMAT if edits else (1, 0)),
        **_part_json(base),
        "edits": [edit_to_json(edit) for edit in edits],
        "tensors": tensors,
        "metadata": base.metadata,
    }
    if inserted:
        description["inserted"] = [_part_json(other) for other in inserted]
    try:
        return json.dumps(description, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"field.metadata must be plain JSON without NaN: {error}") from error


def _part_json(field: Field) -> dict[str, Any]:
    return {
        "family": field.family,
        "options": options_to_json(field.options),
        "space": {"lower": list(field.space.lower), "upper": list(field.space.upper), "unbounded": field.space.unbounded},
        "layout": field.layout(),
        "background": field.background is not None,
    }


def check_header(description: Any, size: int) -> Header:
    """Check a parsed description.

    Raises:
        ValueError, UserError: with a sentence that names the key.
    """
    _require(isinstance(description, dict), "its description is not a JSON object")
    version = description.get("format")
    _require(
        isinstance(version, list) and len(version) == 2 and all(type(v) is int and 0 <= v < 10**6 for v in version),
        "key 'format' is not a pair of whole numbers",
    )
    _require(
        version[0] <= FORMAT[0],
        f"it has format version {version[0]}.{version[1]} and this program reads up to {FORMAT[0]}.x; update fieldmorph",
    )
    missing, unknown = sorted(set(_KEYS) - set(description)), sorted(set(description) - {*_KEYS, "inserted"})
    _require(not missing, f"its description lacks {', '.join(missing)}")
    newer = version[1] > FORMAT[1]  # a newer minor version may add keys that older readers may ignore
    _require(newer or not unknown, f"its description has the unknown keys {', '.join(unknown)[:400]}")
    inserted = _inserted(description.get("inserted", []))
    return Header(
        **vars(_part(description, "")),
        format=(version[0], version[1]),
        tensors=_tensors(description["tensors"]),
        edits=_edits(description["edits"], len(inserted)),
        inserted=inserted,
        metadata=_metadata(description["metadata"]),
        size=size,
    )


_PART = ("family", "options", "space", "layout", "background")


def _part(description: dict[str, Any], where: str) -> Part:
    _require(isinstance(description["family"], str), f"key '{where}family' is not a text")
    family = get_family(description["family"])
    _require(isinstance(description["options"], dict), f"key '{where}options' is not a JSON object")
    _require(isinstance(description["layout"], dict), f"key '{where}layout' is not a JSON object")
    _require(isinstance(description["background"], bool), f"key '{where}background' is neither true nor false")
    return Part(
        family=family.name,
        options=options_from(family.options, description["options"], text=False),
        space=_space(description["space"]),
        layout=description["layout"],
        background=description["background"],
    )


def _edits(value: Any, inserted: int) -> tuple[Edit, ...]:
    _require(isinstance(value, list), "key 'edits' is not a list")
    _require(len(value) <= MOST, f"it has {len(value)} edits, allowed are {MOST}")
    edits = tuple(edit_from_json(edit) for edit in value)
    _require(all(edit.kind != "insert" or edit.field < inserted for edit in edits), "key 'edits' inserts a field that is not in the file")
    return edits


def _inserted(value: Any) -> tuple[Part, ...]:
    _require(isinstance(value, list) and len(value) <= MOST_INSERTED, f"key 'inserted' is not a list of at most {MOST_INSERTED} fields")
    _require(all(isinstance(part, dict) and set(part) == set(_PART) for part in value), f"key 'inserted' holds no {', '.join(_PART)}")
    return tuple(_part(part, "inserted.") for part in value)


def _require(ok: bool, sentence: str) -> None:
    if not ok:
        raise ValueError(sentence)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_is_number(v) and abs(v) < 1e9 for v in value)


def _is_transform(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) in (3, 4) and all(_numbers(row, 4) for row in value))


def _space(value: Any) -> Space:
    _require(isinstance(value, dict) and set(value) == {"lower", "upper", "unbounded"}, "key 'space' is not lower, upper and unbounded")
    _require(_numbers(value["lower"], 3) and _numbers(value["upper"], 3), "key 'space' has corners that are not three numbers")
    _require(isinstance(value["unbounded"], bool), "key 'space.unbounded' is neither true nor false")
    lower, upper = (tuple(float(v) for v in value[k]) for k in ("lower", "upper"))
    return Space(lower, upper, value["unbounded"])  # type: ignore[arg-type]


def _tensors(value: Any) -> dict[str, TensorEntry]:
    _require(isinstance(value, dict), "key 'tensors' is not a JSON object")
    entries = {}
    for name, entry in value.items():
        ok = (
            isinstance(entry, dict)
            and set(entry) == {"codec", "dtype", "shape"}
            and isinstance(entry["codec"], str)
            and isinstance(entry["dtype"], str)
            and isinstance(entry["shape"], list)
            and all(type(v) is int and 0 <= v < 1 << 48 for v in entry["shape"])
        )
        _require(ok, f"key 'tensors.{name[:80]}' is not codec, dtype and shape")
        entries[name] = TensorEntry(entry["codec"], entry["dtype"], tuple(entry["shape"]))
    return entries


def _metadata(value: Any) -> dict[str, Any]:
    """Check the facts this program itself reads; others pass through."""
    _require(isinstance(value, dict), "key 'metadata' is not a JSON object")
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "cameras": (lambda v: isinstance(v, list) and all(isinstance(c, dict) for c in v), "a list of cameras"),
        "history": (lambda v: isinstance(v, list) and all(isinstance(c, str) for c in v), "a list of texts"),
        "color_space": (lambda v: v in ("sRGB", "linear"), "sRGB or linear"),
        "background": (lambda v: v in ("white", "black", "none", "learned"), "white, black, none or learned"),
        "near": (lambda v: _is_number(v) and 0.0 <= v < 1e9, "a distance"),
        "steps": (lambda v: type(v) is int and 1 <= v <= 1 << 20, "a number of steps"),
        "fingerprint": (lambda v: v is None or isinstance(v, str), "a text"),
        "world_transform": (_is_transform, "a 3x4 or 4x4 matrix"),
    }
    for name, (check, wanted) in checks.items():
        if name in value:
            _require(check(value[name]), f"key 'metadata.{name}' is not {wanted}")
    return value
