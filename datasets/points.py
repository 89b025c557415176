"""Sparse points of a capture, and the PLY files they come in.

The part of the format that point clouds use: a header in ASCII, then the elements in its order, as lines of text or as
packed binary records (Turk, "The PLY Polygon File Format", 1994). Of the element ``vertex``, x, y, z and, where they are
there, red, green, blue are read; other elements and properties are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

HEADER = 1 << 16
"""Most bytes of a header."""
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"))


@dataclass(frozen=True, eq=False)
class Points:
    """Points in the world frame of their scene."""

    xyz: NDArray[np.float64]  # [N, 3]
    rgb: NDArray[np.uint8] | None = None  # [N, 3] sRGB

    def __len__(self) -> int:
        return len(self.xyz)

    def thinned(self, most: int, seed: int = 0) -> Points:
        """At most so many of them, in an order of chance: any first part of it is a fair sample."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:most]
        return Points(self.xyz[chosen], None if self.rgb is None else self.rgb[chosen])


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]]
    """Name and NumPy type; "list" for lists."""


def read_ply(path: Path) -> Points:
    """The vertices of a PLY file; those that are not finite are left out.

    Raises:
        UserError: it cannot be read, is no PLY file, ends early, or has no points.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); correct the path or remove it") from error
    order, elements, start = _header(path, content)
    for index, element in enumerate(elements):
        if element.name == "vertex":
            columns, kinds = _vertices(path, content, order, elements[: index + 1], start), dict(element.properties)
            break
    else:
        raise UserError(f"{path}: has no element 'vertex'; give a point cloud")
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise UserError(f"{path}: its vertices have no {missing[0]}; give a point cloud")
    with np.errstate(over="ignore", invalid="ignore"):
        xyz = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], -1)
        rgb = _colors(columns, kinds)
    finite = np.isfinite(xyz).all(-1)
    if not finite.any():
        raise UserError(f"{path}: holds no points; write it again, or remove it")
    return Points(xyz[finite], None if rgb is None else rgb[finite])


def _header(path: Path, content: bytes) -> tuple[str, list[_Element], int]:
    """The byte order ("" for text), the elements, and where the data begins."""

    def wrong(what: str) -> UserError:
        return UserError(f"{path}: is not a PLY file that can be read ({what}); write it again")

    if content[:4] not in (b"ply\n", b"ply\r"):
        raise wrong("it does not begin with 'ply'")
    end = content.find(b"end_header", 0, HEADER)
    stop = content.find(b"\n", end) + 1 if end >= 0 else 0
    if stop <= 0:
        raise wrong("its header does not end")
    order: str | None = None
    elements: list[_Element] = []
    for line in content[:end].decode("latin-1").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in ORDERS:
            order = ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isascii() and words[2].isdigit():
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[0] == "property" and elements and len(words) == 3 and words[1] in TYPES:
            elements[-1].properties.append((words[2], TYPES[words[1]]))
        elif words[0] == "property" and elements and len(words) == 5 and words[1] == "list":
            elements[-1].properties.append((words[4], "list"))
        else:
            raise wrong(f"its header has the line {line.strip()[:40]!r}")
    if order is None:
        raise wrong("its header names no format")
    for element in elements:
        names = [name for name, _ in element.properties]
        if len(set(names)) != len(names):
            raise wrong(f"its element {element.name!r} has a property twice")
    return order, elements, stop


def _vertices(path: Path, content: bytes, order: str, elements: list[_Element], start: int) -> dict[str, NDArray[np.generic]]:
    """Columns of the last of ``elements``; what stands before it is passed over."""
    short = UserError(f"{path}: ends before its {elements[-1].count} vertices do; write it again")
    for element in elements:
        if not element.properties or any(kind == "list" for _, kind in element.properties):
            raise UserError(f"{path}: its element {element.name!r} cannot be read before or as points (lists); give a point cloud")
    if not order:
        lines = content[start:].decode("latin-1").splitlines()
        first, vertex = sum(element.count for element in elements[:-1]), elements[-1]
        rows = [line.split() for line in lines[first : first + vertex.count]]
        if len(rows) < vertex.count:
            raise short
        if any(len(row) != len(vertex.properties) for row in rows):
            raise UserError(f"{path}: a vertex has not {len(vertex.properties)} numbers; write it again")
        try:
            table = np.array(rows, np.float64).reshape(len(rows), len(vertex.properties))
        except ValueError as error:
            raise UserError(f"{path}: a vertex has something that is no number; write it again") from error
        return {name: table[:, k] for k, (name, _) in enumerate(vertex.properties)}
    for element in elements:
        record = np.dtype([(name, order + kind) for name, kind in element.properties])
        if element.count * record.itemsize > len(content) - start:
            raise short
        columns = np.frombuffer(content, record, element.count, start)
        start += element.count * record.itemsize
    return {name: columns[name] for name, _ in elements[-1].properties}


def _colors(columns: dict[str, NDArray[np.generic]], kinds: dict[str, str]) -> NDArray[np.uint8] | None:
    """sRGB bytes [N, 3]; what the file has as floats are shares of one."""
    found = next((names for names in COLORS if all(name in columns for name in names)), None)
    if found is None:
        return None
    rgb = np.stack([columns[name].astype(np.float64) * (255.0 if kinds[name][0] == "f" else 1.0) for name in found], -1)
    return np.nan_to_num(np.clip(np.rint(rgb), 0.0, 255.0)).astype(np.uint8)
