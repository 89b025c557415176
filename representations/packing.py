"""How quantised tensors become bytes: which numbers are stored at all, in which order, and what predicts them.

A tensor is read as rows [rows, C] (all axes but the last are rows) and cut into :class:`Part` s, each with its own
step sizes and symbol tables.  Numbers that no live cell of space reaches are not stored; they read as zero.  The
rest are coded slab by slab; what has been decoded nearby decides which of a part's tables codes a number, so that
flat regions cost little (context modelling, as in image coders).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernels.lowered import DENSE, GridLayout
from .entropy import MAX_SYMBOLS, Counter, Ints, Reader, Writer, power_of_two, table_bits

Code = Callable[[Ints, Ints], Ints]
"""(classes [n], symbols [n]) -> the symbols, read or written; a reader ignores those it is given."""

CLASSES = (1, 5, 12)
"""How many tables a part may use: neighbours of all magnitudes share one, or are told apart."""
_CLASS_OF = np.searchsorted([1, 2, 3, 4, 5, 7, 10, 15, 23, 36, 56], np.arange(4096), side="right").astype(np.int32)
_MOST_EXPONENT = 800
"""Steps are 2^(e / 8) with |e| below this."""


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a tensor that are coded together."""

    begin: int
    end: int
    slabs: int = 1
    """Slabs of ``width`` cells; row r lies in cell ``cells[r - begin]``, slab ``cell // width``."""
    width: int = 1
    cells: NDArray[np.int64] | None = None
    """Increasing; None: row after row."""
    live: NDArray[np.bool_] | None = None
    """Which rows are stored; None: all."""
    by_feature: bool = False
    """Rows have no neighbours (a hashed table): column after column, predicted by the row's earlier columns."""
    fill: float = 0.0
    """What rows that are not stored read as."""
    guard: float | None = None
    """Numbers up to this one are never traded for fewer bits: what they mean does not show in derivatives."""
    logarithmic: bool = False
    """Numbers are logarithms of densities: raising one by e makes exp(e) times as much matter."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """The stored rows, counted from ``begin``."""
        count = self.end - self.begin
        return np.arange(count) if self.live is None else np.flatnonzero(self.live)


@dataclass
class CodedPart:
    """One part's numbers: value = symbol * 2^(exponent / 8), or for ``binary`` ones (2 * symbol - 1) * 2^(exponent / 8)."""

    symbols: Ints
    """[end - begin, C]; 0 in rows that are not stored."""
    exponents: NDArray[np.int16]
    """[C], or [1] for all columns."""
    binary: bool = False

    def values(self, part: Part) -> NDArray[np.float32]:
        steps = np.array([power_of_two(int(e)) for e in self.exponents], np.float32)
        values = (2 * self.symbols - 1 if self.binary else self.symbols).astype(np.float32) * steps
        if part.live is not None:
            values[~part.live] = part.fill
        return values


def default_parts(shape: Sequence[int]) -> list[Part]:
    """A tensor of which nothing is known: neighbours along its first two axes predict."""
    rows = math.prod(shape[:-1])
    return [Part(0, rows, shape[0] if len(shape) > 1 else 1, math.prod(shape[1:-1]))] if len(shape) != 1 else [Part(0, shape[0], shape[0])]


def columns(shape: Sequence[int]) -> int:
    """C of a tensor read as [rows, C]."""
    return shape[-1] if len(shape) > 1 else 1


def grid_parts(layout: GridLayout, bits: NDArray[np.bool_]) -> list[Part]:
    """The levels of a multi-resolution table; live are the rows that some point of an occupied cell reads."""
    parts = []
    for level, (resolution, kind) in enumerate(zip(layout.resolutions, layout.kinds, strict=True)):
        begin, end = layout.offsets[level], layout.offsets[level + 1]
        live = _live_rows(layout, level, bits)
        side = resolution + 1
        if kind == DENSE:
            slabs = -(-(end - begin) // (side * side))
            parts.append(Part(begin, end, slabs, side * side, live=live))
        else:
            parts.append(Part(begin, end, live=live, by_feature=True))
    return parts


_CROWDED, _MOST_VERTICES = 64, 1 << 25
"""A level with so many vertices per row, or in all, fills its table: its rows all count as live."""


def _live_rows(layout: GridLayout, level: int, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from ..kernels.reference_encode import grid_rows

    resolution, kind = layout.resolutions[level], layout.kinds[level]
    count = layout.offsets[level + 1] - layout.offsets[level]
    if (resolution + 1) ** 3 > min(_CROWDED * count, _MOST_VERTICES):
        return np.ones(count, bool)
    vertices = reached(bits, resolution)
    flat, side = np.flatnonzero(vertices), resolution + 1
    live = np.zeros(count, bool)
    for begin in range(0, len(flat), 1 << 20):
        here = torch.from_numpy(flat[begin : begin + (1 << 20)])
        corner = torch.stack([here // (side * side), here // side % side, here % side], -1)
        live[grid_rows(corner, resolution, kind, count).numpy()] = True
    return live


def reached(bits: NDArray[np.bool_], *intervals: int) -> NDArray[np.bool_]:
    """Vertices of a lattice that points of the set cells of ``bits`` read; ``intervals`` per axis, or one number for all."""
    mask = bits
    for axis, count in enumerate(intervals if len(intervals) == 3 else intervals * 3):
        cells = mask.shape[axis]
        # Lattice interval i meets the cells floor(i * cells / count) .. ceil((i + 1) * cells / count) - 1.
        interval = np.arange(max(count, 1), dtype=np.int64)
        first, last = interval * cells // max(count, 1), -(-(interval + 1) * cells // max(count, 1))
        total = np.concatenate([np.zeros_like(mask.take([0], axis), np.int32), mask.cumsum(axis, dtype=np.int32)], axis)
        met = total.take(last, axis) > total.take(first, axis)
        if count == 0:
            mask = met
            continue
        empty = np.zeros_like(met.take([0], axis))
        mask = np.concatenate([met, empty], axis) | np.concatenate([empty, met], axis)
    return mask


def _walk(part: Part, symbols: Ints, code: Code, classes: int) -> None:
    """Code every stored number of ``symbols`` [rows, C] in order, in place."""
    rows = part.rows
    if part.by_feature:
        energy = np.zeros(len(rows), np.int32)
        for column in range(symbols.shape[1]):
            symbols[rows, column] = found = code(_classes(energy, classes), symbols[rows, column])
            energy = energy + 2 * np.abs(found)
        return
    cells = rows if part.cells is None else part.cells[rows]
    starts = np.searchsorted(cells, np.arange(part.slabs + 1) * part.width)
    shape = (part.width + 2, symbols.shape[1])
    last, before, fresh = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for slab in range(part.slabs):
        here = rows[starts[slab] : starts[slab + 1]]
        at = cells[starts[slab] : starts[slab + 1]] - slab * part.width + 1
        near = 2 * last[at] + last[at - 1] + last[at + 1] + before[at]
        found = code(_classes(near.ravel(), classes), symbols[here].ravel()).reshape(near.shape)
        symbols[here] = found
        fresh[:] = 0
        fresh[at] = np.abs(found)
        before, last, fresh = last, fresh, before


def _classes(near: Ints, classes: int) -> Ints:
    if classes == 1:
        return np.zeros(near.shape, np.int32)
    return _CLASS_OF[np.minimum(near, len(_CLASS_OF) - 1)] * classes // 12


def contexts(part: Part, symbols: Ints, classes: int) -> Ints:
    """Which of ``classes`` tables would code each of the symbols [rows, C]; 0 in rows that are not stored."""
    found: list[Ints] = []

    def note(kinds: Ints, numbers: Ints) -> Ints:
        found.append(kinds)
        return numbers

    _walk(part, symbols.copy(), note, classes)
    out, rows = np.zeros_like(symbols), part.rows
    if rows.size and part.by_feature:
        out[rows] = np.stack(found, -1)
    elif rows.size:
        out[rows] = np.concatenate(found).reshape(len(rows), -1)
    return out


def encode(parts: Sequence[Part], coded: Sequence[CodedPart]) -> bytes:
    """The bytes of a quantised tensor."""
    writer = Writer()
    for part, numbers in zip(parts, coded, strict=True):
        base = 0 if numbers.binary else int(np.abs(numbers.symbols).max(initial=0))
        alphabet = 2 if numbers.binary else 2 * base + 1
        if alphabet > MAX_SYMBOLS:
            raise ValueError(f"a part has {alphabet} different symbols, allowed are {MAX_SYMBOLS}")
        shifted = numbers.symbols + base
        best, counter = math.inf, None
        for classes in CLASSES[:1] if numbers.binary or alphabet == 1 else CLASSES:
            found = Counter(classes, alphabet)
            _walk(part, numbers.symbols.copy(), _shifted(found, base), classes)
            bits = sum(table_bits(row) for row in found.counts) + 4.0 * found.counts.size
            if bits < best:
                best, counter = bits, found
        assert counter is not None
        head = np.array(
            [len(counter.counts) | (128 if numbers.binary else 0), base & 255, base >> 8, len(numbers.exponents) == 1], np.uint8
        )
        writer.side += head.tobytes() + numbers.exponents.astype("<i2").tobytes()
        writer.tables(counter.counts)
        _walk(part, shifted - base, _shifted(writer, base), len(counter.counts))
    return writer.finish()


def _shifted(code: Code, base: int) -> Code:
    """Symbols -base .. base as 0 .. 2 * base."""
    return lambda classes, symbols: code(classes, symbols + base) - base


def decode(blob: bytes, parts: Sequence[Part], shape: Sequence[int]) -> Tensor:
    """The tensor behind :func:`encode`'s bytes.

    Raises:
        ValueError: they are not bytes of a tensor of this shape.
    """
    width = columns(shape)
    out = np.zeros((math.prod(shape) // max(width, 1), width), np.float32)
    reader = Reader(blob)
    for part in parts:
        flags, low, high, shared = reader.side(4)
        classes, binary, base = flags & 127, flags >= 128, low + 256 * high
        alphabet = 2 if binary else 2 * base + 1
        if classes not in CLASSES or alphabet > MAX_SYMBOLS or shared > 1 or (binary and base):
            raise ValueError("its tables have impossible sizes")
        exponents = np.frombuffer(reader.side(2 * (1 if shared else width)), "<i2").astype(np.int16)
        if exponents.size and int(np.abs(exponents.astype(np.int32)).max()) >= _MOST_EXPONENT:
            raise ValueError("a step size is impossible")
        reader.tables(classes, alphabet)
        numbers = CodedPart(np.zeros((part.end - part.begin, width), np.int32), exponents, binary)
        _walk(part, numbers.symbols, _shifted(reader, base), classes)
        out[part.begin : part.end] = numbers.values(part)
    reader.finish()
    return torch.from_numpy(out.reshape(tuple(shape)))


# Bits ------------------------------------------------------------------------------------------------------------

_CONTEXTS = 3 * 9 * 5


def _lattice_walk(bits: NDArray[np.bool_], code: Code, hint: NDArray[np.bool_] | None) -> None:
    """Code a grid of bits in place, coarse lattice first, each pass halving the spacing along one axis.

    What predicts a bit: the two known bits before and behind it along that axis, and the eight around each of them.
    """
    stride = 1 << max(0, (max(bits.shape) - 1).bit_length())
    guess = np.zeros((1, 1, 1), np.int32) if hint is None else hint[:1, :1, :1].astype(np.int32)
    bits[:1, :1, :1] = code((2 * _CONTEXTS * guess).ravel(), bits[:1, :1, :1].astype(np.int32).ravel()).reshape(1, 1, 1) > 0
    steps = [stride, stride, stride]
    while stride > 1:
        for axis in range(3):
            half = steps[axis] // 2
            known = bits[:: steps[0], :: steps[1], :: steps[2]]
            steps[axis] = half
            place = tuple(slice(half, None, 2 * half) if a == axis else slice(None, None, steps[a]) for a in range(3))
            wanted = bits[place]
            if not wanted.size:
                continue
            sides = np.pad(known, [(0, 1) if a == axis else (1, 1) for a in range(3)]).astype(np.int32)
            sides = np.moveaxis(sides, axis, 0)
            centre, edges, corners = _around(sides)
            order = np.moveaxis(wanted, axis, 0)
            context = ((centre * 9 + edges) * 5 + corners // 2 + (_CONTEXTS if half > 2 else 0))[: order.shape[0]]
            if hint is not None:
                context = context + 2 * _CONTEXTS * np.moveaxis(hint[place], axis, 0)
            found = code(context.ravel().astype(np.int32), order.astype(np.int32).ravel()).reshape(order.shape) > 0
            bits[place] = np.moveaxis(found, 0, axis)
        stride //= 2


def _around(known: Ints) -> tuple[Ints, Ints, Ints]:
    """Of neighbours in the slabs before and behind: the two centres, eight edge and eight corner neighbours, counted."""
    middle = known[:, 1:-1, 1:-1]
    edge = known[:, :-2, 1:-1] + known[:, 2:, 1:-1] + known[:, 1:-1, :-2] + known[:, 1:-1, 2:]
    corner = known[:, :-2, :-2] + known[:, :-2, 2:] + known[:, 2:, :-2] + known[:, 2:, 2:]
    a, b, c = (part[:-1] + part[1:] for part in (middle, edge, corner))
    return a, b, c


def encode_bits(bits: NDArray[np.bool_], hint: NDArray[np.bool_] | None = None) -> bytes:
    """The bytes of a grid of bits [X, Y, Z]; ``hint`` is a grid of the same shape that the decoder has too."""
    classes = _CONTEXTS * (4 if hint is not None else 2)
    counter, writer = Counter(classes, 2), Writer()
    _lattice_walk(bits.copy(), counter, hint)
    writer.tables(counter.counts)
    _lattice_walk(bits.copy(), writer, hint)
    return writer.finish()


def decode_bits(blob: bytes, shape: Sequence[int], hint: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Inverse of :func:`encode_bits`.

    Raises:
        ValueError: these are not its bytes.
    """
    reader = Reader(blob)
    bits = np.zeros(tuple(shape), bool)
    reader.tables(_CONTEXTS * (4 if hint is not None else 2), 2)
    _lattice_walk(bits, reader, hint)
    reader.finish()
    return bits
