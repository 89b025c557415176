"""A tiny field file, taken apart and put together wrongly."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from fieldmorph.errors import UserError
from fieldmorph.representations.field import Field
from fieldmorph.representations.field_file import load_field
from fieldmorph.representations.registry import build
from fieldmorph.representations.space import Space

BOX = Space((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
TINY = {"levels": 2, "features": 2, "log2_table": 6, "base": 2, "finest": 8, "hidden": 8, "occupancy": 4}


def tiny() -> Field:
    return build("hashgrid", TINY, BOX, 1)


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Container header, description, data."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["fieldmorph"]), raw[8 + length :]


def write(path: Path, header: dict[str, Any] | bytes, description: Any, data: bytes, checksum: bool = True) -> None:
    """A file with a changed header or description whose checksum is right again, as an attacker would make it."""
    if isinstance(header, dict):
        if description is not None:
            text = description if isinstance(description, str) else json.dumps(description)
            header["__metadata__"] = {"fieldmorph": text}
            if checksum:
                header["__metadata__"]["crc32"] = f"{zlib.crc32(data, zlib.crc32(text.encode())):08x}"
        header = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def refused(path: Path, *words: str) -> str:
    """Both readers refuse the file with one sentence that names it and holds the words."""
    with pytest.raises(UserError) as caught:
        load_field(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert len(sentence) < 1200
    for word in words:
        assert word in sentence, sentence
    return sentence
