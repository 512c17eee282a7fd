"""The wire format, against protobuf's own encoding and on malformed bytes."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.wire import (
    BYTES,
    FIXED32,
    GROUP_START,
    VARINT,
    as_int32,
    as_int64,
    encode_bytes,
    encode_varint,
    read_field,
    read_varint,
)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31 - 1, -1, -(2**31)])
def test_varints_are_protobufs(value: int) -> None:
    encoded = caffe_pb2.BlobProto(num=value).SerializeToString()
    assert encoded == b"\x08" + encode_varint(value)
    raw, stop = read_varint(encoded, 1, len(encoded), "x")
    assert (as_int32(raw), as_int64(raw), stop) == (value, value, len(encoded))


def test_int32_takes_the_low_bits() -> None:
    assert as_int32(2**32 + 5) == 5


def test_fields() -> None:
    data = b"\x08\x96\x01" + encode_bytes(2, b"abc") + b"\x2d\x00\x00\x80\x3f"
    first = read_field(data, 0, len(data), "x")
    assert (first.number, first.wire_type, first.value, first.stop) == (1, VARINT, 150, 3)
    second = read_field(data, first.stop, len(data), "x")
    assert (second.number, second.wire_type, data[second.start : second.stop]) == (2, BYTES, b"abc")
    third = read_field(data, second.stop, len(data), "x")
    assert (third.number, third.wire_type, third.stop - third.start) == (5, FIXED32, 4)


def test_groups_are_skipped() -> None:
    data = b"\x0b" + b"\x13\x08\x01\x14" + b"\x1d1234" + b"\x0c" + b"\x08\x01"  # 1 { 2 { 1: 1 } 3: "1234" } 1: 1
    group = read_field(data, 0, len(data), "x")
    assert (group.wire_type, group.stop) == (GROUP_START, len(data) - 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x01", "byte 0: tag 0 is no protobuf field"),
        (b"\x0c", "byte 0: tag 12 is no protobuf field"),
        (b"\x0e", "byte 0: tag 14 is no protobuf field"),
        (b"\x80\x80\x80\x80\x10\x01", "byte 0: tag 4294967296 is no protobuf field"),
        (b"\x08", "byte 1: a number is cut short"),
        (b"\x08\xff", "byte 1: a number is cut short"),
        (b"\x08" + b"\xff" * 11, "byte 1: a number is longer than 10 bytes"),
        (b"\x0a\x05abcd", "byte 0: field 1 needs 5 bytes; 4 are left"),
        (
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "byte 0: field 1 needs 18446744073709551615 bytes; 0 are left",
        ),
        (b"\x0d123", "byte 0: field 1 needs 4 bytes; 3 are left"),
        (b"\x091234567", "byte 0: field 1 needs 8 bytes; 7 are left"),
        (b"\x0b\x14", "byte 1: a group ends that was not open"),
        (b"\x0b", "byte 1: a number is cut short"),
        (b"\x0b" * 200, "byte 100: groups are nested deeper than 100"),
    ],
)
def test_malformed(data: bytes, message: str) -> None:
    with pytest.raises(ProtoError) as caught:
        read_field(data, 0, len(data), "file: layer")
    assert str(caught.value).startswith(f"file: layer: {message}")
