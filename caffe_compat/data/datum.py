"""Caffe's record: an image (raw uint8, float, or an encoded file) and its label.

The wire format is protobuf's message ``Datum``: channels 1, height 2, width 3, data 4, label 5,
float_data 6, encoded 7.  Reading copies nothing: ``data`` is a view into the record.  Works
without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from caffe_compat.data.image_size import check_image_size
from caffe_compat.errors import DataError, reason

Buffer = bytes | bytearray | memoryview

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _FLOAT_DATA, _ENCODED = range(1, 8)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT_TAG = _FLOAT_DATA << 3 | _FIXED32


@dataclass(slots=True)
class Datum:
    """One record.  Raw: ``data`` has channels * height * width bytes, channel by channel (BGR)."""

    channels: int = 0
    height: int = 0
    width: int = 0
    data: Buffer = b""
    label: int = 0
    float_data: np.ndarray | None = None  # float32, used when ``data`` is empty
    encoded: bool = False  # data is a JPEG, PNG, ... file

    def array(self) -> np.ndarray:
        """The values as (C, H, W): uint8, or float32 from ``float_data``; a view, not a copy.

        Raises DataError for an encoded record (see ``decode_image``) and for a wrong size.
        """
        if self.encoded:
            raise DataError("record is an encoded image; decode it with decode_image")
        values, shape = self.values(), (self.channels, self.height, self.width)
        if not sizes_fit(*shape, values.size):
            raise size_error(shape, values.size)
        return values.reshape(shape)

    def values(self) -> np.ndarray:
        """All values of a raw record in a row, whatever its sizes say: uint8, or float32 from ``float_data``."""
        if len(self.data):
            return np.frombuffer(self.data, np.uint8)
        return np.empty(0, np.uint8) if self.float_data is None else self.float_data


Count = TypeVar("Count", int, npt.NDArray[np.int64])


def sizes_fit(channels: Count, height: Count, width: Count, values: Count) -> Any:
    """Whether a raw record has as many values as its sizes say: a truth value, or one for each record of arrays.

    The rule for all readers of records; the products stay below 2^63 where ``values`` is below 2^32.
    """
    area = channels * height  # each of 32 bits
    fits_area = (channels > 0) & (height > 0) & (width > 0) & (area <= values)
    return fits_area & (area * width == values)


def size_error(shape: Sequence[int], values: int) -> DataError:
    """What is wrong where ``sizes_fit`` says no; ``shape``: (channels, height, width)."""
    if not values and not any(shape):
        hint = "an AnnotatedDatum, as convert_annoset makes it, is for an AnnotatedData layer"
        return DataError(f"record has no image; expected a Datum ({hint})")
    sizes = "x".join(map(str, shape))
    return DataError(f"record has {values} values; expected {sizes} (channels x height x width)")


def parse_datum(record: Buffer) -> Datum:
    """Datum from its serialized bytes; unknown fields are passed over.

    Raises DataError when the bytes are cut short or are not a Datum.
    """
    view = memoryview(record)
    end = len(view)
    datum = Datum()
    floats: list[np.ndarray] = []
    position = 0
    try:
        while position < end:
            if view[position] == _FLOAT_TAG:
                values, position = _read_float_run(view, position)
                floats.append(values)
                continue
            tag, position = _read_varint(view, position)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == _VARINT:
                value, position = _read_varint(view, position)
                _set_integer(datum, number, value)
            elif wire_type == _BYTES:
                size, position = _read_varint(view, position)
                if position + size > end:
                    raise DataError(f"record ends inside field {number}: {end - position} of {size} bytes")
                if number == _DATA:
                    datum.data = view[position : position + size]
                elif number == _FLOAT_DATA:
                    floats.append(np.frombuffer(view[position : position + size], "<f4"))
                position += size
            elif number and wire_type in (_FIXED32, _FIXED64):
                position += 4 if wire_type == _FIXED32 else 8
            else:
                raise DataError(f"byte {position}: field {number} of wire type {wire_type}; not a Datum")
            if not number or position > end:
                raise DataError("record ends inside a field; not a Datum, or cut short")
    except (IndexError, ValueError):
        raise DataError("record ends inside a field; not a Datum, or cut short") from None
    if floats:
        datum.float_data = floats[0] if len(floats) == 1 else np.concatenate(floats)
    return datum


def encode_datum(array: np.ndarray, label: int | None = 0) -> bytes:
    """The bytes Caffe writes for a (C, H, W) array: uint8 as ``data``, float32 as ``float_data``.

    ``label`` None leaves the label out.  Raises DataError for another dtype or rank.
    """
    if array.ndim != 3 or array.dtype not in (np.uint8, np.float32):
        raise DataError(f"array is {array.dtype} {array.shape}; expected uint8 or float32 (C, H, W)")
    parts = [_integer_field(number, size) for number, size in zip((1, 2, 3), array.shape, strict=True)]
    if array.dtype == np.uint8:
        parts += [_bytes_field(_DATA, array.tobytes())]
    if label is not None:
        parts += [_integer_field(_LABEL, label)]
    if array.dtype == np.float32:
        parts += [_float_fields(array)]
    else:
        parts += [_integer_field(_ENCODED, 0)]  # Caffe sets the flag, and so writes it, for raw images
    return b"".join(parts)


def encode_image(file_bytes: bytes, label: int = 0) -> bytes:
    """The bytes Caffe writes for an image kept as a JPEG, PNG, ... file."""
    return _bytes_field(_DATA, file_bytes) + _integer_field(_LABEL, label) + _integer_field(_ENCODED, 1)


def decode_image(data: Buffer, color: bool | None = None, name: str = "image") -> np.ndarray:
    """Image (H, W, C) uint8, BGR, from the bytes of an image file, as OpenCV decodes it.

    ``color`` True or False forces 3 or 1 channels; None keeps the file's own.  Raises DataError,
    which names ``name``, when it cannot be decoded or is not 8 bits deep.
    """
    import cv2  # here, because reading raw records needs no OpenCV

    flag = {None: cv2.IMREAD_UNCHANGED, True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE}[color]
    check_image_size(memoryview(data), color, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if len(data) else None
    except (cv2.error, MemoryError) as error:
        raise DataError(f"{name}: {len(data)} bytes that cannot be decoded: {reason(error)}") from None
    if image is None:
        raise DataError(f"{name}: {len(data)} bytes that cannot be decoded; expected a JPEG, PNG, ... file")
    if image.dtype != np.uint8:
        raise DataError(f"{name}: has {image.dtype} pixels; expected 8 bits per channel")
    return image if image.ndim == 3 else image[:, :, None]


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise DataError("a number of more than 10 bytes; not a Datum")


def _read_float_run(view: memoryview, position: int) -> tuple[np.ndarray, int]:
    # Floats come unpacked, each with its own tag: a run of 5-byte rows.
    rows = np.frombuffer(view[position:], np.uint8)
    rows = rows[: rows.size // 5 * 5].reshape(-1, 5)
    others = np.flatnonzero(rows[:, 0] != _FLOAT_TAG)
    count = int(others[0]) if others.size else len(rows)
    if not count:
        raise DataError("record ends inside float_data")
    return np.ascontiguousarray(rows[:count, 1:]).view("<f4").reshape(-1), position + 5 * count


def _set_integer(datum: Datum, number: int, value: int) -> None:
    if number == _ENCODED:
        datum.encoded = bool(value)
        return
    value &= 0xFFFFFFFF  # an int32; negative ones come as 64 bits
    value -= (value & 0x80000000) << 1
    if number == _CHANNELS:
        datum.channels = value
    elif number == _HEIGHT:
        datum.height = value
    elif number == _WIDTH:
        datum.width = value
    elif number == _LABEL:
        datum.label = value


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(int(value))


def _bytes_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _float_fields(array: np.ndarray) -> bytes:
    rows = np.empty((array.size, 5), np.uint8)
    rows[:, 0] = _FLOAT_TAG
    rows[:, 1:] = np.ascontiguousarray(array, "<f4").reshape(-1, 1).view(np.uint8)
    return rows.tobytes()
