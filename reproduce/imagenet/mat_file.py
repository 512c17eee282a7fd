"""Reads MATLAB's files of level 5, as ILSVRC's development kit has one: text, numbers, cells and structures.

The format is MathWorks' "MAT-File Format": a header of 128 bytes, then elements of a type, a size and data; a matrix is
an element of elements.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.errors import DataError, reading

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
#: data types of numbers and text, as NumPy's
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_FIRST_NUMERIC, _LAST_NUMERIC = 6, 15
_MOST_BYTES = 1 << 26  # of one element once inflated; the kit's has 3 MB
_MOST_DEEP = 16


def read_mat(path: Path) -> dict[str, Any]:
    """{variable: value}: text as str, numbers as an array, cells as a list, structures as a list of dicts.

    Other kinds are None.  All in MATLAB's order, columns first.  Raises DataError for another file.
    """
    with reading(path, "a MATLAB file of level 5"):
        data = path.read_bytes()
        mark = data[_HEADER_BYTES - 2 : _HEADER_BYTES]
        if mark not in (b"IM", b"MI") or len(data) < _HEADER_BYTES:
            raise DataError(f"{path}: is no MATLAB file of level 5; expected the development kit's meta.mat")
        reader = _Reader("<" if mark == b"IM" else ">")
        variables = (reader.matrix(body, 0) for kind, body in reader.elements(data[_HEADER_BYTES:]) if kind == _MATRIX)
        return dict(variables)


class _Reader:
    """Elements of one byte order."""

    def __init__(self, order: str) -> None:
        self._order = order

    def elements(self, data: bytes, *, inflated: bool = False) -> Iterator[tuple[int, bytes]]:
        """(type, data) of each element, inflated."""
        at = 0
        while at + 8 <= len(data):
            kind, size = struct.unpack_from(f"{self._order}II", data, at)
            if kind >> 16:  # a small one: size and type share a word, the data are in the next
                kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            else:
                start = at + 8
                step = 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
            if start + size > len(data):
                raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
            body = data[start : start + size]
            at += step
            if kind == _COMPRESSED:
                if inflated:
                    raise ValueError("a compressed element in another one")
                yield from self.elements(zlib.decompressobj().decompress(body, _MOST_BYTES), inflated=True)
            else:
                yield kind, body

    def matrix(self, data: bytes, depth: int) -> tuple[str, Any]:
        """(name, value) of a matrix element."""
        if depth > _MOST_DEEP:
            raise ValueError("structures too deep in each other")
        if not data:
            return "", np.empty(0)  # an empty cell or field
        parts = self.elements(data)
        flags, dims, name = (next(parts)[1] for _ in range(3))
        kind = struct.unpack(f"{self._order}I", flags[:4])[0] & 0xFF
        count = int(np.prod(np.frombuffer(dims, f"{self._order}i4").astype(np.int64)))
        return name.decode("latin-1"), self._value(kind, count, parts, depth)

    def _value(self, kind: int, count: int, parts: Iterator[tuple[int, bytes]], depth: int) -> Any:
        if kind == _CHAR:
            type_, body = next(parts, (1, b""))
            little = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"} if self._order == "<" else {}
            big = {"utf-16": "utf-16-be", "utf-32": "utf-32-be"}
            coding = _TEXTS[type_]
            return body.decode((little or big).get(coding, coding))
        if _FIRST_NUMERIC <= kind <= _LAST_NUMERIC:
            type_, body = next(parts)
            return np.frombuffer(body, self._order + _NUMBERS[type_])
        if kind == _CELL:
            return [self.matrix(body, depth + 1)[1] for _, body in parts]
        if kind == _STRUCT:
            width = int(np.frombuffer(next(parts)[1], f"{self._order}i4")[0])
            names = next(parts)[1]
            fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
            values = [self.matrix(body, depth + 1)[1] for _, body in parts]
            if len(values) != count * len(fields):
                raise ValueError(f"{len(values)} values for {count} structures of {len(fields)} fields")
            starts = range(0, len(values), len(fields) or 1)
            return [dict(zip(fields, values[i : i + len(fields)], strict=True)) for i in starts]
        return None
