"""BlobProto in all its forms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, read_blob, write_blob
from caffe_compat.proto.blob import BlobArrays, decode_blob, encode_blob, write_pieces
from caffe_compat.proto.wire import encode_bytes, encode_varint

VALUES = np.arange(6, dtype=np.float32) / 7


def decode(data: bytes) -> BlobArrays:
    return decode_blob(data, 0, len(data), "file")


def packed(number: int, values: np.ndarray) -> bytes:
    return encode_bytes(number, np.asarray(values).tobytes())


def unpacked(tag: bytes, values: np.ndarray) -> bytes:
    return b"".join(tag + value.tobytes() for value in values)


SHAPE = encode_bytes(7, encode_bytes(1, b"\x02\x03"))


@pytest.mark.parametrize(
    "data",
    [
        SHAPE + packed(5, VALUES),
        packed(5, VALUES) + SHAPE,
        encode_bytes(7, b"\x08\x02\x08\x03") + packed(5, VALUES),  # dims one by one
        encode_bytes(7, b"\x0a\x01\x02") + encode_bytes(7, b"\x08\x03") + packed(5, VALUES),  # merged shapes
        SHAPE + packed(5, VALUES[:2]) + packed(5, VALUES[:0]) + packed(5, VALUES[2:]),  # chunks
        SHAPE + unpacked(b"\x2d", VALUES),
        unpacked(b"\x2d", VALUES[:1]) + SHAPE + packed(5, VALUES[1:3]) + unpacked(b"\x2d", VALUES[3:]),
        SHAPE + packed(5, VALUES) + b"\x50\x07" + encode_bytes(99, b"fork"),  # unknown fields
        SHAPE + packed(5, VALUES) + b"\x28\x07" + b"\x3d1234",  # data and shape of a foreign wire type
    ],
)
def test_forms_of_float_data(data: bytes) -> None:
    blob = decode(data)
    assert np.array_equal(blob.data, VALUES.reshape(2, 3))
    assert blob.data.dtype == np.float32
    assert not blob.data.flags.writeable
    assert blob.diff is None
    assert not blob.legacy
    message = caffe_pb2.BlobProto.FromString(data)  # protobuf reads the same
    assert list(message.data) == VALUES.tolist()


def test_packed_data_is_a_view() -> None:
    data = SHAPE + packed(5, VALUES)
    assert np.shares_memory(decode(data).data, np.frombuffer(data, np.uint8))


def test_double_data_wins_over_data() -> None:
    doubles = VALUES.astype(np.float64) + 1e-12
    for field in (packed(8, doubles), unpacked(b"\x41", doubles)):
        blob = decode(SHAPE + field)
        assert blob.data.dtype == np.float64
        assert np.array_equal(blob.data.ravel(), doubles)
    assert np.array_equal(decode(SHAPE + packed(5, VALUES) + packed(8, doubles)).data.ravel(), doubles)


def test_diff() -> None:
    blob = decode(SHAPE + packed(5, VALUES) + packed(6, -VALUES))
    assert blob.diff is not None
    assert np.array_equal(blob.diff, -VALUES.reshape(2, 3))
    blob = decode(SHAPE + packed(5, VALUES) + packed(9, -VALUES.astype(np.float64)))
    assert blob.diff is not None
    assert blob.diff.dtype == np.float64


def test_legacy_sizes_win_over_shape() -> None:
    sizes = b"\x08\x01\x10\x01\x18\x02\x20\x03"
    blob = decode(sizes + SHAPE + packed(5, VALUES))
    assert blob.data.shape == (1, 1, 2, 3)
    assert blob.legacy


def test_blobs_of_one_value_and_of_none() -> None:
    assert decode(packed(5, VALUES[:1])).data.shape == ()
    assert decode(encode_bytes(7, encode_bytes(1, b"\x00\x03"))).data.shape == (0, 3)


def test_many_unpacked_values() -> None:
    # More than the first windows of the search, with the end of the run inside one.
    values = np.arange(5000, dtype=np.float32)
    shape = encode_bytes(7, encode_bytes(1, encode_varint(5000)))
    assert np.array_equal(decode(unpacked(b"\x2d", values) + shape).data, values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SHAPE + packed(5, VALUES[:5]), "byte 0: has 5 values; its shape 2 x 3 takes 6"),
        (b"", "byte 0: has 0 values; its shape () (one value) takes 1"),
        (SHAPE + packed(5, VALUES) + packed(6, VALUES[:2]), "byte 0: has 2 values; its shape 2 x 3 takes 6"),
        (SHAPE + packed(6, VALUES), "byte 0: holds only a diff (gradients), no data"),
        (SHAPE + encode_bytes(5, b"12345"), "byte 6: 5 bytes of values are not a multiple of 4"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "byte 0: has a size of -1 in shape (-1, 0, 0, 0)"),
        (encode_bytes(7, b"\x08" + encode_varint(2**31)), "byte 0: has a size of 2147483648"),
        (
            encode_bytes(7, encode_bytes(1, encode_varint(2**31 - 1) * 9)),
            "byte 0: has 0 values; its shape 2147483647 x",
        ),
        (encode_bytes(7, encode_bytes(1, b"\x01" * 33)), "byte 2: has more than 32 axes"),
        (encode_bytes(7, b"\x0a\x02\x01"), "byte 2: field 1 needs 2 bytes; 1 are left"),
        (b"\x2d123", "byte 0: field 5 needs 4 bytes; 3 are left"),
    ],
)
def test_inconsistent_blobs(data: bytes, message: str) -> None:
    with pytest.raises(ProtoError) as caught:
        decode(data)
    assert str(caught.value).startswith(f"file: {message}")


# -- writing -----------------------------------------------------------------------------------


def encode(array: np.ndarray, diff: np.ndarray | None = None) -> bytes:
    from io import BytesIO

    file = BytesIO()
    write_pieces(file, encode_blob(array, diff, "file"))
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3), (6,), (1, 2, 3, 1, 1), (0, 3)])
def test_encoding_is_protobufs(shape: tuple[int, ...], dtype: type[np.floating[Any]]) -> None:
    values = VALUES.astype(dtype)[: np.prod(shape)].reshape(shape)
    message = caffe_pb2.BlobProto()
    message.shape.dim.extend(shape)
    prefix = "double_" if dtype == np.float64 else ""
    getattr(message, f"{prefix}data").extend(values.ravel().tolist())
    getattr(message, f"{prefix}diff").extend((-values).ravel().tolist())
    assert encode(values, -values) == message.SerializeToString(deterministic=True)


def test_any_memory_layout_is_written_in_order() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    for array in (wide.T, wide[:, ::2], wide.astype(">f4"), np.full((), 3, np.float32)):
        blob = decode(encode(array))
        assert np.array_equal(blob.data, array)
        assert blob.data.shape == array.shape


@pytest.mark.parametrize(
    ("array", "diff", "message"),
    [
        (np.zeros(3, np.float16), None, "file: dtype is float16; expected float32 or float64"),
        (np.zeros(3, np.int64), None, "file: dtype is int64; expected float32 or float64"),
        (VALUES, VALUES[:2], r"file: diff has shape \(2,\); expected that of the data, \(6,\)"),
    ],
)
def test_arrays_that_do_not_fit(array: np.ndarray, diff: np.ndarray | None, message: str) -> None:
    with pytest.raises(ProtoError, match=message):
        encode_blob(array, diff, "file")


def test_blob_files(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    mean = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    write_blob(path, mean)
    message = caffe_pb2.BlobProto.FromString(path.read_bytes())
    assert (message.num, message.channels, message.height, message.width) == (1, 2, 3, 4)
    assert not message.HasField("shape")
    assert np.array_equal(read_blob(path), mean)
    write_blob(path, mean[0])
    assert caffe_pb2.BlobProto.FromString(path.read_bytes()).shape.dim == [2, 3, 4]
    assert np.array_equal(read_blob(path), mean[0])


def test_blob_file_errors(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    with pytest.raises(ProtoError, match=r"mean\.binaryproto: cannot be read: No such file"):
        read_blob(path)
    path.write_bytes(b"")
    with pytest.raises(ProtoError, match=r"mean\.binaryproto: the file is empty; expected a BlobProto"):
        read_blob(path)
    with pytest.raises(ProtoError, match="cannot be read: Is a directory"):
        read_blob(tmp_path)
    with pytest.raises(ProtoError, match="cannot be written: No such file or directory"):
        write_blob(tmp_path / "none" / "mean.binaryproto", VALUES)


def test_no_values_in_a_shape_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(caffe_pb2.BlobProto(shape={"dim": [0, 2**31 - 1, 2**31 - 1, 9]}).SerializeToString())
    with pytest.raises(
        ProtoError, match=r"b: byte 0: shape 0 x 2147483647 x 2147483647 x 9; expected sizes of at most"
    ):
        read_blob(tmp_path / "b")


@pytest.mark.parametrize(
    ("kind", "dtype", "read_as"), [(0, "<f8", np.float64), (1, "<f4", np.float32), (2, "<f2", np.float32)]
)
def test_raw_values_of_forks(kind: int, dtype: str, read_as: type) -> None:
    values = np.array([[0, 1.5, -2], [0.25, 1024, 3]])
    data = SHAPE + b"\x50" + encode_varint(kind) + b"\x58" + encode_varint(kind)
    blob = decode(
        data + encode_bytes(12, values.astype(dtype).tobytes()) + encode_bytes(13, (-values).astype(dtype).tobytes())
    )
    assert blob.data.dtype == read_as
    assert np.array_equal(blob.data, values)
    assert not blob.data.flags.writeable
    assert blob.diff is not None
    assert np.array_equal(blob.diff, -values)


def test_raw_values_are_double_where_no_type_is_given() -> None:
    assert np.array_equal(decode(SHAPE + encode_bytes(12, np.arange(6.0).tobytes())).data, np.arange(6.0).reshape(2, 3))


def test_values_in_caffes_fields_win_over_raw_ones() -> None:
    foreign = b"\x50\x07" + encode_bytes(12, b"of another fork")
    assert np.array_equal(decode(SHAPE + foreign + packed(5, VALUES)).data, VALUES.reshape(2, 3))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x50\x03" + encode_bytes(12, bytes(24)), "raw values of type 3; expected 0"),
        (b"\x50\x02" + encode_bytes(12, bytes(11)), "11 bytes of raw values; shape 2 x 3 takes 2 for each"),
    ],
)
def test_bad_raw_values(raw: bytes, message: str) -> None:
    with pytest.raises(ProtoError, match=message):
        decode(SHAPE + raw)
