"""Numeric arrays in MATLAB 5 files; nothing is unpacked before its size is known.

Not by scipy, whose compiled reader (seen with 1.17.1) can end the process on a damaged
file. Format: MathWorks, "MAT-File Format", level 5: a header of 128 bytes, then elements of a tag
and data, each a matrix or a deflated one; a matrix is elements again: flags, dimensions, name,
values.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER, _TAG = 128, 8
# Enough for flags, dimensions and name of a matrix.
_HEAD = 4096
_MATRIX, _DEFLATED = 14, 15
_COMPLEX = 0x800
#: Types of stored values, by number.
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
#: Classes of arrays, by number; the first few hold other things than numbers.
_KINDS = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "float64", 7: "float32",
    8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64",
    15: "uint64",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class MatVariable:
    """A variable whose values are still packed.

    Attributes:
        kind: its class, such as ``uint8``, ``float64`` or ``struct``.
        size: bytes that its values take unpacked, by its own word.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    size: int
    _order: str
    _packed: memoryview
    _is_deflated: bool

    @property
    def is_numeric(self) -> bool:
        return self.kind not in ("cell", "struct", "object", "char", "sparse")

    def read(self) -> NDArray[Any]:
        """Its values, in the order that they are stored in.

        Raises:
            ValueError: it holds no numbers, or fewer than it says.
        """
        whole = _TAG + self.size
        matrix = _inflated(self._packed, whole) if self._is_deflated else self._packed[:whole]
        _, _, _, (stored, values) = _first(4, matrix[_TAG:], self._order)
        if not self.is_numeric or stored not in _STORED:
            raise ValueError(f"{self.name} holds no numbers")
        found = np.frombuffer(values, np.dtype(self._order + _STORED[stored]))
        if len(found) != prod(self.shape):
            raise ValueError(f"{self.name} says {prod(self.shape)} values and holds {len(found)}")
        return found.astype(self.kind).reshape(self.shape, order="F")


def mat_variables(path: Path) -> list[MatVariable]:
    """The variables of a file.

    Raises:
        ValueError: it is no MATLAB 5 file, or damaged.
    """
    content = memoryview(path.read_bytes())
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[_HEADER - 2 : _HEADER]))
    if order is None:
        raise ValueError("it is no MATLAB 5 file")
    return [
        _variable(data, order, kind == _DEFLATED)
        for kind, data in _elements(content[_HEADER:], order, with_tags=True)
        if kind in (_MATRIX, _DEFLATED)
    ]


def _variable(packed: memoryview, order: str, is_deflated: bool) -> MatVariable:
    head = _inflated(packed, _HEAD) if is_deflated else packed[:_HEAD]
    kind, size = np.frombuffer(head[:_TAG], np.dtype(order + "u4"))
    if kind != _MATRIX:
        raise ValueError(f"a variable is an element of type {kind}")
    flags, dimensions, name = (data for _, data in _first(3, head[_TAG:], order))
    (number,) = np.frombuffer(flags[:4], np.dtype(order + "u4")).tolist()
    shape = tuple(np.frombuffer(dimensions, np.dtype(order + "i4")).tolist())
    called = bytes(name).decode("ascii", "replace")
    if number & _COMPLEX or number & 0xFF not in _KINDS or min(shape, default=-1) < 0:
        raise ValueError(f"{called} is no array of real numbers")
    return MatVariable(called, _KINDS[number & 0xFF], shape, int(size), order, packed, is_deflated)


def _first(count: int, content: memoryview, order: str) -> list[tuple[int, memoryview]]:
    found = [each for each, _ in zip(_elements(content, order), range(count), strict=False)]
    if len(found) < count:
        raise ValueError("a variable is cut short")
    return found


def _elements(
    content: memoryview, order: str, with_tags: bool = False
) -> Iterator[tuple[int, memoryview]]:
    """Type and data of one element after the other; the last may reach beyond the content."""
    at = 0
    while at + _TAG <= len(content):
        kind, size = np.frombuffer(content[at : at + _TAG], np.dtype(order + "u4")).tolist()
        if kind >> 16:  # up to four bytes stand in the tag itself
            yield kind & 0xFFFF, content[at + 4 : at + 4 + min(kind >> 16, 4)]
            at += _TAG
            continue
        end = at + _TAG + size
        if with_tags and end > len(content):
            raise ValueError("it is cut short")
        whole_matrix = with_tags and kind == _MATRIX
        yield kind, content[at if whole_matrix else at + _TAG : end]
        # Only deflated elements are not padded to eight bytes.
        at = end if kind == _DEFLATED else end + -size % _TAG


def _inflated(packed: memoryview, most: int) -> memoryview:
    """Its first `most` bytes."""
    try:
        return memoryview(zlib.decompressobj().decompress(packed, most))
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
