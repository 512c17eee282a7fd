"""Protobuf's wire format, read from a buffer without building messages, and written in pieces.

A field is a varint tag (number << 3 | wire type) and a value: a varint, 4 or 8 fixed bytes, or a
length and so many bytes.  Reading trusts nothing: each length is checked against what is left.
"""

import mmap
from typing import NamedTuple, NoReturn

from caffe_compat.errors import ProtoError

VARINT, FIXED64, BYTES, GROUP_START, GROUP_END, FIXED32 = range(6)

Buffer = bytes | mmap.mmap

_VARINT_BYTES = 10
_LARGEST_TAG = 0xFFFF_FFFF  # protobuf's
_GROUP_DEPTH = 100  # protobuf's own limit


class Field(NamedTuple):
    """One field at ``[tag_start, stop)`` of the buffer; its value at ``[start, stop)``.

    ``value`` is the number of a VARINT field and 0 for the others.
    """

    number: int
    wire_type: int
    tag_start: int
    start: int
    stop: int
    value: int


def read_field(buffer: Buffer, position: int, limit: int, place: str) -> Field:
    """The field at ``position`` of a message that ends at ``limit``; ProtoError when malformed."""
    tag, start = read_varint(buffer, position, limit, place)
    number, wire_type = tag >> 3, tag & 7
    value = 0
    if number == 0 or tag > _LARGEST_TAG or wire_type in (GROUP_END, 6, 7):
        fail(place, position, f"tag {tag} is no protobuf field")
    if wire_type == VARINT:
        value, stop = read_varint(buffer, start, limit, place)
    elif wire_type == BYTES:
        length, start = read_varint(buffer, start, limit, place)
        stop = start + length
    elif wire_type == GROUP_START:
        stop = _skip_group(buffer, start, limit, place, number)
    else:
        stop = start + (8 if wire_type == FIXED64 else 4)
    if stop > limit:
        fail(place, position, f"field {number} needs {stop - start} bytes; {limit - start} are left (file cut short?)")
    return Field(number, wire_type, position, start, stop, value)


def read_varint(buffer: Buffer, position: int, limit: int, place: str) -> tuple[int, int]:
    """The unsigned 64-bit varint at ``position``, and where it ends."""
    value = 0
    for i in range(_VARINT_BYTES):
        if position + i >= limit:
            fail(place, position, "a number is cut short")
        byte = buffer[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + i + 1
    fail(place, position, "a number is longer than 10 bytes")


def as_int64(value: int) -> int:
    """A varint's value as protobuf's int64."""
    return value - (1 << 64) if value >> 63 else value


def as_int32(value: int) -> int:
    """A varint's value as protobuf's int32 (the low 32 bits)."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def encode_varint(value: int) -> bytes:
    """A number as a varint; negative ones as protobuf's int32 and int64 do it."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_tag(number: int, wire_type: int) -> bytes:
    """The tag in front of a field."""
    return encode_varint(number << 3 | wire_type)


def encode_bytes(number: int, data: bytes) -> bytes:
    """A whole BYTES field."""
    return encode_tag(number, BYTES) + encode_varint(len(data)) + data


def fail(place: str, offset: int, text: str) -> NoReturn:
    """Raise ProtoError about a byte offset."""
    raise ProtoError(f"{place}: byte {offset}: {text}")


def _skip_group(buffer: Buffer, position: int, limit: int, place: str, number: int) -> int:
    # Caffe has no groups, but protobuf skips unknown ones.
    open_groups = [number]
    while open_groups:
        tag, start = read_varint(buffer, position, limit, place)
        if tag & 7 == GROUP_END:
            if tag >> 3 != open_groups.pop():
                fail(place, position, "a group ends that was not open")
            position = start
        elif tag & 7 == GROUP_START and tag >> 3:
            open_groups.append(tag >> 3)
            if len(open_groups) > _GROUP_DEPTH:
                fail(place, position, f"groups are nested deeper than {_GROUP_DEPTH}")
            position = start
        else:
            position = read_field(buffer, position, limit, place).stop
    return position
