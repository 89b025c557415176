"""A strict reader and an atomic writer of safetensors files: named tensors and one JSON text, nothing executable.

The layout is safetensors' own (8 bytes header length, JSON header, tensor bytes without gaps), so any of its
readers opens these files.  This reader checks the whole header before it allocates anything.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from ..errors import UserError

MAX_HEADER = 32 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a ZIP archive (PyTorch's checkpoints are such)",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"ply\n": "a PLY mesh or point cloud",
    b"\x80\x04\x95": "a Python pickle, which is never read",
}
"""First bytes of files that people take for a field file."""
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class StoredTensor(NamedTuple):
    """Where a tensor lies; offsets count from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Container(NamedTuple):
    """A checked header."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    data_start: int
    size: int


def strict_json(text: str | bytes, what: str) -> Any:
    """JSON without NaN, infinities, duplicate keys or absurd depth.

    Raises:
        ValueError: with a sentence that names ``what``.
    """

    def constant(name: str) -> Any:
        raise ValueError(f"{what} holds {name}, which is not a number")

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{what} holds the number {digits[:20]}, which is too large")
        return value

    def whole(digits: str) -> int:
        if len(digits) > 40:
            raise ValueError(f"{what} holds a number of {len(digits)} digits")
        return int(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{what} holds the key {next(n for n in names if names.count(n) > 1)!r} twice")
        return found

    try:
        return json.loads(text, parse_constant=constant, parse_float=number, parse_int=whole, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not valid JSON ({error.msg} at character {error.pos})") from None


def read_container(file: BinaryIO) -> Container:
    """Read and check the header of an open file.

    Raises:
        ValueError: with a sentence about what is wrong.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size < 10:
        raise ValueError(f"it holds only {size} bytes")
    start = file.read(8)
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= MAX_HEADER:
        for signature, kind in _FOREIGN.items():
            if start.startswith(signature):
                raise ValueError(f"it is {kind}")
        raise ValueError(f"its header would be {length} bytes long, which is no field file's (at most {MAX_HEADER})")
    if length > size - 8:
        raise ValueError(f"its header of {length} bytes is cut off after {size - 8}")
    raw = file.read(length)
    header = strict_json(raw, "its header")
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the key '__metadata__' of its header is not a table of texts")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it lists {len(header)} tensors, allowed are {MAX_TENSORS}")
    tensors = {name: _stored(name, entry) for name, entry in header.items()}
    _check_cover(tensors, size - 8 - length)
    return Container(tensors, metadata, 8 + length, size)


def _stored(name: str, entry: Any) -> StoredTensor:
    shown = repr(name if len(name) <= 80 else name[:77] + "...")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of tensor {shown} is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"tensor {shown} has the unknown dtype {str(dtype)[:20]!r}")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"tensor {shown} has no valid shape")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"tensor {shown} has no valid data_offsets")
    nbytes = math.prod(shape) * _DTYPES[dtype].itemsize
    if nbytes != offsets[1] - offsets[0]:
        raise ValueError(f"tensor {shown} of shape {shape} and dtype {dtype} needs {nbytes} bytes but owns {offsets[1] - offsets[0]}")
    return StoredTensor(_DTYPES[dtype], tuple(shape), offsets[0], offsets[1])


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def _check_cover(tensors: Mapping[str, StoredTensor], data_size: int) -> None:
    """Tensors must follow each other without gap or overlap and fill the file: no byte is read twice or left over."""
    position = 0
    for name, stored in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if stored.begin != position:
            raise ValueError(f"the bytes of tensor {name!r} overlap or leave a gap at {position}")
        position = stored.end
    if position > data_size:
        raise ValueError(f"it is cut off: its tensors need {position} bytes and {data_size} are there")
    if position < data_size:
        raise ValueError(f"{data_size - position} bytes after its last tensor belong to nothing")


def read_tensor(file: BinaryIO, container: Container, name: str) -> Tensor:
    """One tensor, in its stored dtype, on the CPU."""
    stored = container.tensors[name]
    length = stored.end - stored.begin
    if length == 0:
        return torch.empty(stored.shape, dtype=stored.dtype)
    buffer = bytearray(length)
    file.seek(container.data_start + stored.begin)
    if file.readinto(buffer) != length:  # type: ignore[attr-defined]
        raise ValueError(f"it is cut off inside tensor {name!r}")
    if stored.dtype is torch.bool and max(buffer) > 1:
        raise ValueError(f"tensor {name!r} holds bytes that are neither true nor false")
    return torch.frombuffer(buffer, dtype=stored.dtype).reshape(stored.shape)


def data_checksum(file: BinaryIO, container: Container, seed: int) -> int:
    """CRC-32 of all tensor bytes, continued from ``seed``."""
    file.seek(container.data_start)
    while chunk := file.read(1 << 22):
        seed = zlib.crc32(chunk, seed)
    return seed


def write_container(path: Path, tensors: Mapping[str, Tensor], text_key: str, text: str) -> None:
    """Write ``tensors`` and one metadata text atomically: the file is either the old one or wholly the new one.

    Bytes depend on the arguments alone: names sorted, widest dtype first, the header padded with spaces to 8.
    ``crc32`` in the metadata covers the text and all tensor bytes.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    checksum = zlib.crc32(text.encode())
    position, entries = 0, {}
    blobs = {}
    for name in order:
        tensor = tensors[name].detach().cpu().contiguous()
        blobs[name] = blob = memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else memoryview(b"")
        checksum = zlib.crc32(blob, checksum)
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, position + len(blob)]}
        position += len(blob)
    header = json.dumps({"__metadata__": {"crc32": f"{checksum:08x}", text_key: text}, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise UserError(f"{path}: the field's description is {len(header)} bytes long, allowed are {MAX_HEADER}; keep fewer cameras in it")
    assert sys.byteorder == "little"
    with atomic_file(path) as file:
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        for name in order:
            file.write(blobs[name])


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under ``path`` only when the block has ended well, and is on the disk by then.

    Raises:
        UserError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); free some space or choose another folder") from error
    with contextlib.suppress(OSError):  # directories cannot be synced everywhere
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
