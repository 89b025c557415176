"""The field file: one safetensors file with everything a field is.

Tensors are the field's parameters and buffers under their own names.  The metadata text ``fieldmorph`` is JSON:

=============  =====================================================================
format         [major, minor]; a newer major version is refused
family         name in the registry
options        the family's options, all of them
space          lower, upper, unbounded
layout         numbers that, with the options, fix every tensor's shape
background     whether a learned background colour is among the tensors
edits          list of region edits (see :mod:`.edits`)
inserted       optional: family, options, space, layout and background of the fields that edits insert;
               the tensors of the k-th are ``inserted.k.NAME``
tensors        name -> codec, dtype and shape of the tensor it decodes to (codecs: see :mod:`.codecs`)
metadata       training cameras, world transform, colour space, fingerprint, history
=============  =====================================================================

Loading believes nothing: every shape is derived from the checked options before memory is allocated. A packed
file's JSON is deflated, for a hundred training cameras outweigh a small field.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zlib import crc32

import torch
from torch import Tensor

from ..errors import UserError
from .codecs import BITS, Quantised, check_unfolded, decode_tensor, decoding_order, deflate_text, encode_tensor, inflate_text, stored_form
from .container import Container, data_checksum, read_container, read_tensor, strict_json, write_container
from .edited import EditedField, with_edits
from .field import Field
from .header import Header, check_header, header_text
from .header import Part as Description
from .packing import Part
from .registry import get_family

Precision = Literal["float32", "float16"]
TEXT_KEY = "fieldmorph"
_DENSITY = "occupancy.density"


def save_field(
    field: Field, path: str | os.PathLike[str], precision: Precision = "float32", packed: Mapping[str, Quantised] | None = None
) -> None:
    """Write a field atomically.

    Args:
        precision: ``float32`` keeps every bit, also of the occupancy's running values (checkpoints need them);
            ``float16`` halves the file and keeps only the occupancy's bits. A tensor with values that
            float16 cannot hold stays float32.
        packed: quantised numbers to store, entropy-coded, in place of the tensors of these names; the occupancy's bits
            and the voxels' links are coded, too.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    if precision not in ("float32", "float16"):
        raise ValueError(f"precision must be 'float32' or 'float16', got {precision!r}")
    stored: dict[str, Tensor] = {}
    cuts = {} if packed is None else _members(field)[0][0].packing()
    codecs: dict[str, dict[str, Any]] = {}
    for member, prefix in _members(field):
        for name, tensor in sorted(member.state_dict().items()):
            if name == _DENSITY and precision == "float16":
                continue
            quantised = packed if prefix == "" or packed is None else {}
            codec, stored[prefix + name] = encode_tensor(member, name, tensor, precision == "float16", quantised, cuts)
            codecs[prefix + name] = {"codec": codec, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    text = header_text(field, codecs)
    write_container(Path(path), stored, TEXT_KEY, text if packed is None else deflate_text(text))


def _members(field: Field) -> list[tuple[Field, str]]:
    """The fields a file holds and what the names of their tensors begin with."""
    if not isinstance(field, EditedField):
        return [(field, "")]
    return [(field.base, ""), *((other, f"inserted.{k}.") for k, other in enumerate(field.sources[1:]))]


@dataclass
class _Opened:
    header: Header
    container: Container
    fields: list[tuple[Field, str]]  # on the meta device: shapes without memory; with what their tensors' names begin with
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
            fields = [(field.to_empty(device="cpu"), prefix) for field, prefix in opened.fields]
            for field, prefix in fields:
                _fill(field, prefix, file, opened)
                field.check_content()
            base, inserted = fields[0][0], [field for field, _ in fields[1:]]
            base.metadata = opened.header.metadata
            loaded = with_edits(base.to(device), opened.header.edits, [field.to(device) for field in inserted])
        except ValueError as error:
            raise _bad(path, error) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return loaded


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
        header = check_header(strict_json(inflate_text(text), "its description"), container.size)
        fields = [(_shapes(header), ""), *((_shapes(part), f"inserted.{k}.") for k, part in enumerate(header.inserted))]
        _check_tensors(header, container, fields)
    except ValueError as error:
        raise _bad(path, error) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return _Opened(header, container, fields, path)


def _shapes(header: Description) -> Field:
    """The field that a description means, on the meta device."""
    with torch.device("meta"):
        field: Field = get_family(header.family).field(header.options, header.space, header.layout)
        if header.background:
            field.add_background()
    return field


def _check_tensors(header: Header, container: Container, fields: list[tuple[Field, str]]) -> None:
    """Names, codecs, dtypes and shapes: stored, described and expected must agree, all differences at once."""
    expected = {prefix + name: tensor for field, prefix in fields for name, tensor in field.state_dict().items()}
    optional = {prefix + _DENSITY for _, prefix in fields}
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
        physical = stored_form(described.codec, wanted, stored.shape)
        if physical is None:
            problems.append(f"{name} has codec {described.codec!r}, which does not suit it")
        elif (stored.dtype, stored.shape) != physical:
            problems.append(f"{name} is stored as {stored.dtype} {list(stored.shape)}, expected is {physical[0]} {list(physical[1])}")
    if problems:
        raise ValueError("; ".join(problems[:10]))
    check_unfolded({name: entry.codec for name, entry in header.tensors.items()}, expected, container.size)


def _check_damage(file: BinaryIO, container: Container) -> None:
    stated = container.metadata.get("crc32")
    if stated is None:
        return
    found = data_checksum(file, container, crc32(container.metadata[TEXT_KEY].encode()))
    if stated != f"{found:08x}":
        raise ValueError("its checksum does not match, so some of its bytes were changed")


def _fill(field: Field, prefix: str, file: BinaryIO, opened: _Opened) -> None:
    """Read every tensor of a field; the occupancy first, because what is stored of others follows from it."""
    state, tensors = field.state_dict(), opened.header.tensors
    cuts: dict[str, list[Part]] | None = None
    with torch.no_grad():
        for name in sorted((name for name in state if prefix + name in tensors), key=decoding_order):
            codec = tensors[prefix + name].codec
            value = read_tensor(file, opened.container, prefix + name)
            if name == BITS and codec != "raw":
                kept = state[_DENSITY].clone() if prefix + _DENSITY in tensors else None
                field.occupancy.load_packed(decode_tensor(field, name, value, codec, {}))
                if kept is not None:
                    state[_DENSITY].copy_(kept)
                continue
            if codec == "packed" and cuts is None:
                cuts = field.packing()  # the occupancy and the links have been read
            value = decode_tensor(field, name, value, codec, cuts or {})
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ValueError(f"tensor {name!r} holds NaN or infinite numbers")
            state[name].copy_(value)
