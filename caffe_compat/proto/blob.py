"""BlobProto, an array on the wire, in all forms that Caffe has written; single-blob files.

The sizes are a ``shape`` message, or the four legacy numbers num, channels, height, width, which
win where both are given.  The values are float or double, packed (possibly in several chunks) or
one by one; NVCaffe and OpenCV have them as raw bytes of a type, fp16 among them.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from math import prod
from typing import Any, BinaryIO

import numpy as np

from caffe_compat.atomic_file import atomic_path
from caffe_compat.errors import ProtoError, refusal, seen_from
from caffe_compat.proto.source import FilePath
from caffe_compat.proto.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Buffer,
    Field,
    as_int32,
    as_int64,
    encode_bytes,
    encode_tag,
    encode_varint,
    fail,
    read_field,
    read_varint,
)

MAX_AXES = 32  # Caffe's kMaxBlobAxes
MAX_DIM = 2**31 - 1  # Caffe counts with int
MAX_MESSAGE_BYTES = 2**31 - 1  # protobuf's, and Caffe's, limit for one file

Piece = bytes | np.ndarray  # what a file is written from; an array stands for its bytes

_LEGACY = (1, 2, 3, 4)  # num, channels, height, width
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9
_RAW_TYPE = {12: 10, 13: 11}  # raw_data and raw_diff -> the field of their type
_RAW_DATA, _RAW_DIFF = _RAW_TYPE
_RAW_DTYPE: dict[int, np.dtype[Any]] = {0: np.dtype("<f8"), 1: np.dtype("<f4"), 2: np.dtype("<f2")}
_DTYPE: dict[int, np.dtype[Any]] = {
    _DATA: np.dtype("<f4"),
    _DIFF: np.dtype("<f4"),
    _DOUBLE_DATA: np.dtype("<f8"),
    _DOUBLE_DIFF: np.dtype("<f8"),
}


@dataclass
class BlobArrays:
    """A decoded BlobProto.  ``diff`` is None when absent; ``legacy``: the sizes were the four numbers."""

    data: np.ndarray
    diff: np.ndarray | None
    legacy: bool


@dataclass
class _Values:
    """Where one field's numbers lie: ``count`` of them in ``runs`` pieces, the first at ``start``."""

    count: int = 0
    runs: int = 0
    start: int = 0
    packed: bool = True


def decode_blob(buffer: Buffer, start: int, stop: int, place: str) -> BlobArrays:
    """The BlobProto in ``buffer[start:stop]``: read-only views where its values lie in one piece.

    float32, or float64 for the double fields.  Raises ProtoError when the bytes are malformed or
    the number of values is not that of the sizes.
    """
    legacy: dict[int, int] = {}
    raw: dict[int, Field] = {}
    dims: list[int] = []
    values = {number: _Values() for number in _DTYPE}
    position = start
    while position < stop:
        field = read_field(buffer, position, stop, place)
        position = field.stop
        if field.number in _LEGACY and field.wire_type == VARINT:
            legacy[field.number] = as_int32(field.value)
        elif field.number == _SHAPE and field.wire_type == BYTES:
            _read_dims(buffer, field.start, field.stop, place, dims)
        elif (field.number in _RAW_TYPE and field.wire_type == BYTES) or (
            field.number in _RAW_TYPE.values() and field.wire_type == VARINT
        ):
            raw[field.number] = field
        elif field.number in _DTYPE:
            piece = _locate_values(buffer, field.number, field.tag_start, stop, place)
            if piece is not None:
                first, count, packed, position = piece
                found = values[field.number]
                if count and not found.runs:
                    found.start, found.packed = first, packed
                found.runs += count > 0
                found.count += count
    shape = tuple(legacy.get(i, 0) for i in _LEGACY) if legacy else tuple(dims)
    _check_shape(shape, place, start)
    data = _DOUBLE_DATA if values[_DOUBLE_DATA].count else _DATA
    diff = _DOUBLE_DIFF if values[_DOUBLE_DIFF].count else _DIFF
    if values[data].count == 0 and values[diff].count and _RAW_DATA not in raw:
        fail(place, start, "holds only a diff (gradients), no data")

    def read(number: int, raw_number: int) -> np.ndarray:
        if raw_number in raw and not values[number].count:  # Caffe's own fields win, as in OpenCV
            return _raw_values(buffer, raw, raw_number, shape, place)
        return _gather(buffer, start, stop, number, values=values[number], shape=shape, place=place)

    has_diff = values[diff].count or _RAW_DIFF in raw
    return BlobArrays(read(data, _RAW_DATA), read(diff, _RAW_DIFF) if has_diff else None, bool(legacy))


def _raw_values(
    buffer: Buffer, fields: dict[int, Field], number: int, shape: tuple[int, ...], place: str
) -> np.ndarray:
    """The values of raw_data or raw_diff, in float32 where they have fewer bits."""
    type_field = fields.get(_RAW_TYPE[number])
    kind, field = type_field.value if type_field else 0, fields[number]
    dtype = _RAW_DTYPE.get(kind)
    if dtype is None:
        fail(place, field.tag_start, f"raw values of type {kind}; expected 0 (double), 1 (float) or 2 (float16)")
    size_bytes = field.stop - field.start
    if size_bytes != prod(shape) * dtype.itemsize:
        sizes = " x ".join(map(str, shape))
        fail(place, field.tag_start, f"{size_bytes} bytes of raw values; shape {sizes} takes {dtype.itemsize} for each")
    found = np.frombuffer(buffer, dtype, prod(shape), field.start).reshape(shape)
    return found if dtype.itemsize > 2 else _read_only(found.astype(np.float32))


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _read_dims(buffer: Buffer, start: int, stop: int, place: str, dims: list[int]) -> None:
    position = start
    while position < stop:
        field = read_field(buffer, position, stop, place)
        position = field.stop
        if field.number != 1 or field.wire_type not in (BYTES, VARINT):
            continue
        inner = field.start
        while inner < field.stop:
            value, inner = read_varint(buffer, inner, field.stop, place)
            dims.append(as_int64(value))
            if len(dims) > MAX_AXES:
                fail(place, start, f"has more than {MAX_AXES} axes")


def _check_shape(shape: tuple[int, ...], place: str, offset: int) -> None:
    for dim in shape:
        if not 0 <= dim <= MAX_DIM:
            fail(place, offset, f"has a size of {dim} in shape {shape}; expected 0 to {MAX_DIM}")


def _locate_values(
    buffer: Buffer, number: int, tag_start: int, stop: int, place: str
) -> tuple[int, int, bool, int] | None:
    """(where the values start, count, packed, where the fields after them start); None for a foreign wire type."""
    dtype = _DTYPE[number]
    field = read_field(buffer, tag_start, stop, place)
    if field.wire_type == BYTES:
        size_bytes = field.stop - field.start
        if size_bytes % dtype.itemsize:
            fail(place, tag_start, f"{size_bytes} bytes of values are not a multiple of {dtype.itemsize}")
        return field.start, size_bytes // dtype.itemsize, True, field.stop
    if field.wire_type != (FIXED32 if dtype.itemsize == 4 else FIXED64):
        return None
    count = _count_unpacked(buffer, number, tag_start, stop)
    return tag_start, count, False, tag_start + count * _unpacked_dtype(number).itemsize


def _unpacked_dtype(number: int) -> np.dtype:
    return np.dtype([("tag", "u1"), ("value", _DTYPE[number])])


def _count_unpacked(buffer: Buffer, number: int, start: int, stop: int) -> int:
    """How many fields of this number follow each other, each a one-byte tag and a value."""
    dtype = _unpacked_dtype(number)
    tag = buffer[start]
    available = (stop - start) // dtype.itemsize
    count, window = 0, 64
    while count < available:
        size = min(window, available - count)
        tags = np.frombuffer(buffer, dtype, size, start + count * dtype.itemsize)["tag"]
        others = np.flatnonzero(tags != tag)
        if others.size:
            return count + int(others[0])
        count += size
        window *= 2
    return count


def _gather(
    buffer: Buffer, start: int, stop: int, number: int, *, values: _Values, shape: tuple[int, ...], place: str
) -> np.ndarray:
    if prod(shape) != values.count:
        sizes = " x ".join(map(str, shape)) or "() (one value)"
        fail(place, start, f"has {values.count} values; its shape {sizes} takes {prod(shape)}")
    dtype = _DTYPE[number]
    if values.count == 0:
        if prod(dim for dim in shape if dim) > MAX_DIM:
            fail(place, start, f"shape {' x '.join(map(str, shape))}; expected sizes of at most {MAX_DIM} together")
        return np.zeros(shape, dtype)
    if values.runs == 1 and values.packed:
        return np.frombuffer(buffer, dtype, values.count, values.start).reshape(shape)
    gathered = np.empty(values.count, dtype)
    filled, position = 0, start
    while position < stop:
        field = read_field(buffer, position, stop, place)
        position = field.stop
        piece = _locate_values(buffer, number, field.tag_start, stop, place) if field.number == number else None
        if piece is not None:
            first, count, packed, position = piece
            part = np.frombuffer(buffer, dtype if packed else _unpacked_dtype(number), count, first)
            gathered[filled : filled + count] = part if packed else part["value"]
            filled += count
    return _read_only(gathered.reshape(shape))


# -- writing -----------------------------------------------------------------------------------


def encode_blob(array: np.ndarray, diff: np.ndarray | None, place: str, legacy: bool = False) -> list[Piece]:
    """The pieces of a BlobProto, as Caffe lays it out: bytes, and arrays whose bytes belong there.

    float32 goes to data and diff, float64 to double_data and double_diff.  ``legacy`` writes the
    four old sizes (of a 4-axis array).  Raises ProtoError for another dtype or a diff of another shape.
    """
    shape = np.shape(array)
    pieces: list[Piece] = []
    if legacy:
        pieces += [encode_tag(i, VARINT) + encode_varint(dim) for i, dim in zip(_LEGACY, shape, strict=True)]
    dims = b"".join(encode_varint(dim) for dim in shape)
    shape_field = encode_bytes(_SHAPE, encode_bytes(1, dims)) if shape and not legacy else b""
    for values, numbers in ((array, (_DATA, _DOUBLE_DATA)), (diff, (_DIFF, _DOUBLE_DIFF))):
        if values is None:
            continue
        if values.shape != shape:
            raise ProtoError(f"{place}: diff has shape {values.shape}; expected that of the data, {shape}")
        check_dtype(values, place)
        number = numbers[values.dtype.itemsize == 8]
        if number > _SHAPE:  # fields stand in order of number
            pieces.append(shape_field)
            shape_field = b""
        if values.size:
            pieces += [encode_tag(number, BYTES) + encode_varint(values.nbytes), values]
    return [*pieces, shape_field]


def check_dtype(array: np.ndarray, place: str) -> None:
    """Raise ProtoError unless the array is float32 or float64, of either byte order."""
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise ProtoError(f"{place}: dtype is {array.dtype}; expected float32 or float64")


def size_bytes(pieces: list[Piece]) -> int:
    """How many bytes the pieces take in the file."""
    return sum(piece.nbytes if isinstance(piece, np.ndarray) else len(piece) for piece in pieces)


def write_pieces(file: BinaryIO, pieces: list[Piece]) -> None:
    """Write the pieces one after another; arrays little-endian, in C order."""
    for piece in pieces:
        if isinstance(piece, np.ndarray):
            ordered = np.ascontiguousarray(piece, piece.dtype.newbyteorder("<"))
            file.write(ordered.reshape(-1).view(np.uint8).data)
        else:
            file.write(piece)


@contextmanager
def open_whole(path: FilePath) -> Iterator[BufferedWriter]:
    """A binary file that replaces ``path`` only when the block succeeds; ProtoError instead of OSError."""
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            yield file
            file.flush()
    except OSError as error:
        raise ProtoError(f"{os.fspath(path)}: cannot be written: {refusal(error)}") from None


def map_file(path: FilePath, kind: str) -> mmap.mmap:
    """The file as a read-only memory map; ProtoError when it cannot be opened or is empty.

    It must not be shortened by others while arrays that look into it are in use.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ProtoError(f"{os.fspath(path)}: the file is empty; expected a {kind}")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ProtoError(f"{os.fspath(path)}: cannot be read: {error.strerror}{seen_from(path)}") from None


def read_blob(path: FilePath) -> np.ndarray:
    """The array in a file of one BlobProto (``.binaryproto``), read-only; ProtoError when malformed.

    A mean image in the legacy form has shape 1 x C x H x W.
    """
    buffer = map_file(path, "BlobProto")
    return decode_blob(buffer, 0, len(buffer), os.fspath(path)).data


def write_blob(path: FilePath, array: np.ndarray) -> None:
    """Write float32 or float64 ``array`` as a file of one BlobProto, atomically.

    An array of 4 axes gets the legacy sizes, as Caffe's compute_image_mean writes them, so that
    every version of Caffe can read it.
    """
    pieces = encode_blob(np.asarray(array), None, os.fspath(path), legacy=np.ndim(array) == 4)
    if size_bytes(pieces) > MAX_MESSAGE_BYTES:
        raise ProtoError(f"{os.fspath(path)}: {size_bytes(pieces)} bytes; a protobuf file takes {MAX_MESSAGE_BYTES}")
    with open_whole(path) as file:
        write_pieces(file, pieces)
