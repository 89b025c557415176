"""The field file: one safetensors file with everything a field is.

Tensors are the field's parameters and buffers under their own names.  The metadata text ``fieldmorph`` is JSON:

=============  =====================================================================
format         [major, minor]; a newer major version is refused
family         name in the registry
options        the family's options, all of them
space          lower, upper, unbounded
layout         numbers that, with the options, fix every tensor's shape
background     whether a learned background colour is among the tensors
edits          list of region edits (empty in this version)
tensors        name -> codec, dtype and shape of the tensor it decodes to
metadata       training cameras, world transform, colour space, fingerprint, history
=============  =====================================================================

Loading believes nothing: every shape is derived from the checked options before memory is allocated.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zlib import crc32

import torch
from torch import Tensor

from ..errors import UserError
from .container import Container, data_checksum, read_container, read_tensor, strict_json, write_container
from .field import Field
from .header import Header, check_header, header_text
from .registry import get_family

Precision = Literal["float32", "float16"]
TEXT_KEY = "fieldmorph"
_HALF_MAX = 65504.0
_BITS, _DENSITY = "occupancy.bits", "occupancy.density"


def save_field(field: Field, path: str | os.PathLike[str], precision: Precision = "float32") -> None:
    """Write a field atomically.

    Args:
        precision: ``float32`` keeps every bit, also of the occupancy's running values (checkpoints need them);
            ``float16`` halves the file and keeps only the occupancy's bits. A tensor with values that
            float16 cannot hold stays float32.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    if precision not in ("float32", "float16"):
        raise ValueError(f"precision must be 'float32' or 'float16', got {precision!r}")
    stored: dict[str, Tensor] = {}
    codecs: dict[str, dict[str, Any]] = {}
    for name, tensor in sorted(field.state_dict().items()):
        if name == _DENSITY and precision == "float16":
            continue
        codec, stored[name] = _encode(name, tensor, field, precision)
        codecs[name] = {"codec": codec, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    write_container(Path(path), stored, TEXT_KEY, header_text(field, codecs))


def _encode(name: str, tensor: Tensor, field: Field, precision: Precision) -> tuple[str, Tensor]:
    if name == _BITS:
        return "bits", field.occupancy.packed()
    halve = precision == "float16" and tensor.dtype is torch.float32
    if halve and (not tensor.numel() or float(tensor.abs().max()) <= _HALF_MAX):
        return "float16", tensor.half()
    return "raw", tensor


@dataclass
class _Opened:
    header: Header
    container: Container
    field: Field  # on the meta device: shapes without memory
    path: Path


def read_header(path: str | os.PathLike[str]) -> Header:
    """What a file says about its field, completely checked, without reading its tensors.

    Raises:
        UserError: not a field file, damaged, or made by a newer version.
    """
    with _open(path) as file:
        return _checked(file, Path(path)).header


def load_field(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Field:
    """Read a field; its parameters are float32 whatever the file's precision.

    Raises:
        UserError: not a field file, damaged, or made by a newer version; the sentence names the file and the place.
    """
    with _open(path) as file:
        opened = _checked(file, Path(path))
        try:
            _check_damage(file, opened.container)
            field = opened.field.to_empty(device="cpu")
            _fill(field, file, opened)
            field.check_content()
        except ValueError as error:
            raise _bad(path, error) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    field.metadata = opened.header.metadata
    return field.to(device)


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; give the path of a .field file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror or error})") from None
    except ValueError as error:
        raise UserError(f"{str(path)!r} is not a possible file name ({error})") from None


def _bad(path: str | os.PathLike[str], error: Exception) -> UserError:
    return UserError(f"{path}: this is not a usable field file: {error}; train or convert it again, or get an undamaged copy")


def _checked(file: BinaryIO, path: Path) -> _Opened:
    try:
        container = read_container(file)
        text = container.metadata.get(TEXT_KEY)
        if text is None:
            raise ValueError(f"it has no {TEXT_KEY!r} entry in its metadata; another program wrote it")
        header = check_header(strict_json(text, "its description"), container.size)
        field = _shapes(header)
        _check_tensors(header, container, field)
    except ValueError as error:
        raise _bad(path, error) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return _Opened(header, container, field, path)


def _shapes(header: Header) -> Field:
    """The field its header describes, on the meta device."""
    with torch.device("meta"):
        field: Field = get_family(header.family).field(header.options, header.space, header.layout)
        if header.background:
            field.add_background()
    return field


def _check_tensors(header: Header, container: Container, field: Field) -> None:
    """Names, codecs, dtypes and shapes: stored, described and expected must agree, all differences at once."""
    expected = field.state_dict()
    optional = {_DENSITY}
    problems = []
    for kind, names in (("described", set(header.tensors)), ("stored", set(container.tensors))):
        missing, unknown = sorted(set(expected) - names - optional), sorted(names - set(expected))
        problems += [f"{kind} tensors lack {', '.join(missing)}"] if missing else []
        problems += [f"{kind} tensors include the unknown {', '.join(unknown)[:400]}"] if unknown else []
    if set(header.tensors) != set(container.tensors) and not problems:
        problems.append(f"{_DENSITY} is either described or stored but not both")
    if problems:
        raise ValueError("; ".join(problems))
    for name in sorted(header.tensors):
        described, stored, wanted = header.tensors[name], container.tensors[name], expected[name]
        dtype, shape = str(wanted.dtype).removeprefix("torch."), tuple(wanted.shape)
        if (described.dtype, described.shape) != (dtype, shape):
            problems.append(f"{name} is described as {described.dtype} {list(described.shape)}, its options imply {dtype} {list(shape)}")
        physical = _stored_form(described.codec, wanted)
        if physical is None:
            problems.append(f"{name} has codec {described.codec!r}, which does not suit it")
        elif (stored.dtype, stored.shape) != physical:
            problems.append(f"{name} is stored as {stored.dtype} {list(stored.shape)}, expected is {physical[0]} {list(physical[1])}")
    if problems:
        raise ValueError("; ".join(problems[:10]))


def _stored_form(codec: str, wanted: Tensor) -> tuple[torch.dtype, tuple[int, ...]] | None:
    """dtype and shape in the file of a tensor under a codec; None where the codec cannot hold it."""
    shape = tuple(wanted.shape)
    if codec == "raw":
        return wanted.dtype, shape
    if codec == "float16" and wanted.dtype is torch.float32:
        return torch.float16, shape
    if codec == "bits" and wanted.dtype is torch.bool:
        return torch.uint8, (-(-math.prod(shape) // 8),)
    return None


def _check_damage(file: BinaryIO, container: Container) -> None:
    stated = container.metadata.get("crc32")
    if stated is None:
        return
    found = data_checksum(file, container, crc32(container.metadata[TEXT_KEY].encode()))
    if stated != f"{found:08x}":
        raise ValueError("its checksum does not match, so some of its bytes were changed")


def _fill(field: Field, file: BinaryIO, opened: _Opened) -> None:
    state = field.state_dict()
    with torch.no_grad():
        for name in sorted(opened.header.tensors):
            value = read_tensor(file, opened.container, name)
            if name == _BITS and opened.header.tensors[name].codec == "bits":
                if _DENSITY in opened.header.tensors:
                    kept = state[_DENSITY].clone()
                    field.occupancy.load_packed(value)
                    state[_DENSITY].copy_(kept)
                else:
                    field.occupancy.load_packed(value)
                continue
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ValueError(f"tensor {name!r} holds NaN or infinite numbers")
            state[name].copy_(value)
