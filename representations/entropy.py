"""Entropy coding of whole numbers with static tables: what both sides of a packed field need.

The coder is constriction's range coder (Bamler 2022).  Its models are categorical, made from tables of whole
numbers that travel with the data, so that the same bytes decode to the same numbers on every machine: no
exponential or logarithm of the decoder's own enters.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]

MAX_SYMBOLS = 16383
"""Most different symbols of one table."""
_MAX_SIDE = 1 << 24
"""Bytes of tables and step sizes that one packed tensor may unfold to."""
_EIGHTHS = (1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081)
"""2^(k/8), written out: a library's power function may differ in its last bit from machine to machine."""


def power_of_two(eighths: int) -> float:
    """2^(eighths / 8), the same bits everywhere."""
    return float(np.ldexp(np.float32(_EIGHTHS[eighths % 8]), eighths // 8))


def table_bytes(counts: NDArray[np.int64]) -> bytes:
    """How often each symbol occurs, as one byte each: 0 never, else its share in eighths of an octave."""
    total = max(1, int(counts.sum()))
    share = -8.0 * np.log2(np.maximum(counts, 1) / total)
    return bytes(np.where(counts > 0, np.clip(np.rint(share) + 1, 1, 255), 0).astype(np.uint8))


def table_bits(counts: NDArray[np.int64]) -> float:
    """Bits that the counted symbols take, their table left out."""
    total = max(1, int(counts.sum()))
    return float(-(counts * np.log2(np.maximum(counts, 1) / total)).sum())


def _model(table: bytes) -> Any:
    from constriction import stream

    shares = np.array([0.0 if q == 0 else power_of_two(1 - q) for q in table], np.float32)
    if not shares.any():
        shares[:] = 1.0  # a class without symbols
    return stream.model.Categorical(shares, perfect=False)


class Counter:
    """Looks at the symbols of each class before they are written: the first of the encoder's two passes."""

    def __init__(self, classes: int, symbols: int) -> None:
        self.counts = np.zeros((classes, symbols), np.int64)

    def __call__(self, classes: Ints, symbols: Ints) -> Ints:
        flat = classes.astype(np.int64) * self.counts.shape[1] + symbols
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)
        return symbols


class Writer:
    """Collects tables and step sizes (side information), and symbols."""

    def __init__(self) -> None:
        from constriction import stream

        self.side = bytearray()
        self._encoder = stream.queue.RangeEncoder()
        self._models: list[Any] = []

    def tables(self, counts: NDArray[np.int64]) -> None:
        """The tables [classes, symbols] of the symbols that follow."""
        texts = [table_bytes(row) for row in counts]
        self.side += b"".join(texts)
        self._models = [_model(text) if len(text) > 1 else None for text in texts]

    def __call__(self, classes: Ints, symbols: Ints) -> Ints:
        for kind, chosen in _by_class(classes):
            if self._models[kind] is not None:
                self._encoder.encode(np.ascontiguousarray(symbols[chosen]), self._models[kind])
        return symbols

    def finish(self) -> bytes:
        side = zlib.compress(bytes(self.side), 9)
        words = self._encoder.get_compressed().astype("<u4").tobytes()
        return struct.pack("<I", len(side)) + side + words


class Reader:
    """The inverse of :class:`Writer`. Every length is checked before it is believed.

    Raises:
        ValueError: from every method, where the bytes cannot be what a writer wrote.
    """

    def __init__(self, blob: bytes) -> None:
        from constriction import stream

        (length,) = struct.unpack("<I", blob[:4]) if len(blob) >= 4 else (len(blob),)
        if length > len(blob) - 4 or (len(blob) - 4 - length) % 4:
            raise ValueError("its lengths do not add up")
        inflate = zlib.decompressobj()
        try:
            self._side = inflate.decompress(blob[4 : 4 + length], _MAX_SIDE)
        except zlib.error:
            raise ValueError("its tables are damaged") from None
        if not inflate.eof or inflate.unused_data:
            raise ValueError("its tables are cut off or too long")
        self._at = 0
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(blob, "<u4", offset=4 + length).astype(np.uint32))
        self._models: list[Any] = []

    def side(self, count: int) -> bytes:
        """The next ``count`` bytes of side information."""
        if count > len(self._side) - self._at:
            raise ValueError("its tables end too early")
        self._at += count
        return self._side[self._at - count : self._at]

    def tables(self, classes: int, symbols: int) -> None:
        texts = [self.side(symbols) for _ in range(classes)]
        self._models = [_model(text) if symbols > 1 else None for text in texts]

    def __call__(self, classes: Ints, symbols: Ints) -> Ints:
        out = np.zeros(classes.shape, np.int32)
        for kind, chosen in _by_class(classes):
            if self._models[kind] is None:
                continue
            try:
                out[chosen] = self._decoder.decode(self._models[kind], len(chosen))
            except AssertionError:
                raise ValueError("its symbols are damaged") from None
        return out

    def finish(self) -> None:
        """Refuse what is left over."""
        if self._at != len(self._side) or not self._decoder.maybe_exhausted():
            raise ValueError("it holds more than its tensor needs")


def _by_class(classes: Ints) -> list[tuple[int, NDArray[np.int64]]]:
    """(class, positions) of every class that occurs, in order."""
    if not classes.size:
        return []
    if not classes.any():
        return [(0, np.arange(classes.size))]
    order = np.argsort(classes, kind="stable")
    kinds, first = np.unique(classes[order], return_index=True)
    return [(int(kind), part) for kind, part in zip(kinds, np.split(order, first[1:]), strict=True)]
