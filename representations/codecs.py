"""The forms in which a field file stores a tensor.

=======  ==============================================================================================
raw      the tensor itself
float16  float32 numbers that float16 can hold
bits     a grid of bits (the occupancy's, a mask's), eight to a byte
packed   float32 numbers, quantised and entropy-coded (see :mod:`.packing`)
lattice  a grid of bits, entropy-coded from coarse to fine; all but the occupancy's with that one as a hint
links    the voxels' links, as the bits of which vertices have a row; rows are in the order of the vertices
=======  ==============================================================================================
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .container import MAX_HEADER
from .packing import CodedPart, Part, decode, decode_bits, default_parts, encode, encode_bits, reached

if TYPE_CHECKING:
    from .field import Field

Quantised = Sequence[CodedPart]
"""A tensor's parts (:meth:`Field.packing`), quantised."""

BITS, LINKS = "occupancy.bits", "links"
_HALF_MAX = 65504.0
_DEFLATED = "zlib:"
_UNFOLDED, _RATIO = 1 << 26, 4096
"""Bytes that a file may unfold to: so many, and so many per byte of its own."""


def encode_tensor(
    field: Field, name: str, tensor: Tensor, halve: bool, packed: Mapping[str, Quantised] | None, cuts: Mapping[str, list[Part]]
) -> tuple[str, Tensor]:
    """(codec, what is stored) of one of a field's tensors; see :func:`.field_file.save_field`. ``cuts`` is :meth:`Field.packing`'s."""
    if name == BITS:
        return ("bits", field.occupancy.packed()) if packed is None else ("lattice", _bytes(encode_bits(_bits(field))))
    if tensor.dtype is torch.bool and tensor.dim() == 3:
        grid = tensor.cpu().numpy()
        if packed is None:
            return "bits", torch.from_numpy(np.packbits(grid.reshape(-1)))
        return "lattice", _bytes(encode_bits(grid, _reached(field, tensor.shape)))
    if packed is not None and name in packed:
        return "packed", _bytes(encode(cuts.get(name) or default_parts(tensor.shape), packed[name]))
    if packed is not None and name == LINKS and rows_in_order(tensor):
        return "links", _bytes(encode_bits(tensor.cpu().numpy() >= 0, _reached(field, tensor.shape)))
    if halve and tensor.dtype is torch.float32 and (not tensor.numel() or float(tensor.abs().max()) <= _HALF_MAX):
        return "float16", tensor.half()
    return "raw", tensor


def decode_tensor(field: Field, name: str, stored: Tensor, codec: str, cuts: Mapping[str, list[Part]]) -> Tensor:
    """Inverse of :func:`encode_tensor`; the occupancy's bits come eight to a byte. Tensors come in :func:`decoding_order`.

    Raises:
        ValueError: the stored bytes are not a tensor of this kind and shape.
    """
    if codec in ("raw", "float16") or (codec == "bits" and name == BITS):
        return stored
    shape, blob = tuple(field.state_dict()[name].shape), stored.numpy().tobytes()
    if codec == "bits":
        return torch.from_numpy(np.unpackbits(stored.numpy(), count=math.prod(shape)).astype(bool).reshape(shape))
    try:
        if codec == "lattice" and name == BITS:
            return torch.from_numpy(np.packbits(decode_bits(blob, shape).reshape(-1)))
        if codec == "lattice":
            return torch.from_numpy(decode_bits(blob, shape, _reached(field, shape)))
        if codec == "packed":
            return decode(blob, cuts.get(name) or default_parts(shape), shape)
        linked = decode_bits(blob, shape, _reached(field, shape))
    except ValueError as error:
        raise ValueError(f"tensor {name!r} cannot be decoded: {error}") from None
    links = np.full(shape, -1, np.int32)
    links[linked] = np.arange(int(linked.sum()), dtype=np.int32)
    return torch.from_numpy(links)


def decoding_order(name: str) -> tuple[bool, bool, str]:
    """Sort key: the occupancy first, then the links, because what is stored of other tensors follows from them."""
    return name != BITS, name != LINKS, name


def stored_form(codec: str, wanted: Tensor, stored: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]] | None:
    """dtype and shape in the file of a tensor under a codec; None where the codec cannot hold it.

    Coded tensors have any number of bytes: theirs is taken from ``stored``, the shape in the file.
    """
    shape, coded = tuple(wanted.shape), (torch.uint8, (math.prod(stored),))
    if codec == "raw":
        return wanted.dtype, shape
    if codec in ("float16", "packed") and wanted.dtype is torch.float32:
        return (torch.float16, shape) if codec == "float16" else coded
    if codec in ("bits", "lattice") and wanted.dtype is torch.bool and len(shape) == 3:
        return (torch.uint8, (-(-math.prod(shape) // 8),)) if codec == "bits" else coded
    if codec == "links" and wanted.dtype is torch.int32 and len(shape) == 3:
        return coded
    return None


def check_unfolded(codecs: Mapping[str, str], expected: Mapping[str, Tensor], size: int) -> None:
    """Refuse a small file that would fill the memory.

    Raises:
        ValueError: it would.
    """
    numbers = sum(expected[name].numel() for name, codec in codecs.items() if codec in ("packed", "links", "lattice"))
    if 4 * numbers > _UNFOLDED + _RATIO * size:
        raise ValueError(f"its {size} bytes would unfold to {4 * numbers}, which no packed field does")


def rows_in_order(links: Tensor) -> bool:
    """Whether the links number their rows in the order of the vertices."""
    rows = links.reshape(-1)
    rows = rows[rows >= 0]
    return bool(torch.equal(rows, torch.arange(len(rows), dtype=rows.dtype, device=rows.device)))


def deflate_text(text: str) -> str:
    """A long text as a shorter one."""
    return _DEFLATED + base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def inflate_text(text: str) -> str:
    """The text behind :func:`deflate_text`; any other text as it is.

    Raises:
        ValueError: it is damaged or unreasonably long.
    """
    if not text.startswith(_DEFLATED):
        return text
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(base64.b85decode(text[len(_DEFLATED) :]), MAX_HEADER)
        if inflate.eof and not inflate.unused_data:
            return raw.decode()
    except (zlib.error, ValueError):
        pass
    raise ValueError("its description is damaged")


def _bits(field: Field) -> NDArray[np.bool_]:
    return field.occupancy.bits.cpu().numpy()


def _reached(field: Field, shape: Sequence[int]) -> NDArray[np.bool_]:
    return reached(_bits(field), *(n - 1 for n in shape))


def _bytes(blob: bytes) -> Tensor:
    return torch.frombuffer(bytearray(blob), dtype=torch.uint8)
