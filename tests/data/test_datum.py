import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_compat import extension
from caffe_compat.data.batch import BatchMaker
from caffe_compat.data.datum import decode_image, encode_datum, encode_image, parse_datum, size_error, sizes_fit
from caffe_compat.data.image_batch import BAD, BYTES, ENCODED, FLOATS, PlainImageBatch
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2

#: The reader of many records: the extension's where it is there, and its twin.
BATCH_TYPES = [PlainImageBatch, *([extension.require("this test").ImageBatch] if extension.load() else [])]


def caffe_datum(array: np.ndarray, label: int) -> bytes:
    """What Caffe's CVMatToDatum and set_label serialize to."""
    datum = caffe_pb2.Datum(channels=array.shape[0], height=array.shape[1], width=array.shape[2], label=label)
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
        datum.encoded = False
    else:
        datum.float_data.extend(array.reshape(-1))
    return datum.SerializeToString()


@pytest.mark.parametrize("label", [0, 1, 127, 128, 999, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bytes_equal_protobuf_and_come_back(dtype: type, label: int) -> None:
    array: np.ndarray = np.random.default_rng(0).integers(0, 256, (3, 5, 7)).astype(dtype)
    record = encode_datum(array, label)
    assert record == caffe_datum(array, label)
    datum = parse_datum(record)
    assert datum.label == label
    assert not datum.encoded
    assert (datum.array() == array).all()
    assert datum.array().dtype == dtype


def test_encoded_image() -> None:
    record = encode_image(b"file", 7)
    assert record == caffe_pb2.Datum(data=b"file", label=7, encoded=True).SerializeToString()
    datum = parse_datum(record)
    assert (bytes(datum.data), datum.label, datum.encoded) == (b"file", 7, True)


def test_packed_and_scattered_floats_and_unknown_fields() -> None:
    floats = np.arange(4, dtype="<f4")
    unpacked = b"".join(b"\x35" + value.tobytes() for value in floats[:2])
    packed = b"\x32\x08" + floats[2:].tobytes()
    unknown = b"\x78\x05" + b"\x7a\x01x" + b"\x7d1234" + b"\x7912345678"
    record = b"\x08\x01\x10\x02\x18\x02" + unpacked + unknown + packed
    assert parse_datum(record).array().reshape(-1).tolist() == [0, 1, 2, 3]
    for batch_type in BATCH_TYPES:
        out = np.empty((1, 1, 2, 2), np.float32)
        batch_type([record], 1).transform(out, np.zeros((1, 3), np.int32), None, 1.0, 1)
        assert out.reshape(-1).tolist() == [0, 1, 2, 3]


def test_wrong_size_is_refused() -> None:
    record = caffe_pb2.Datum(channels=3, height=4, width=5, data=b"12345").SerializeToString()
    with pytest.raises(DataError, match=r"5 values; expected 3x4x5"):
        parse_datum(record).array()


@pytest.mark.usefixtures("image_batches")
@pytest.mark.parametrize(
    ("sizes", "data", "message"),
    [
        ((3, 4, 5), b"12345", "record has 5 values; expected 3x4x5"),
        ((1, 2, 2), b"12345", "record has 5 values; expected 1x2x2"),
        ((0, 2, 2), b"", "record has 0 values; expected 0x2x2"),
        ((0, 0, 0), b"", "record has no image; expected a Datum (an AnnotatedDatum"),
        ((-1, -1, 1), b"1", "record has 1 values; expected -1x-1x1"),
        ((2**31 - 1, 2**31 - 1, 2**31 - 1), b"1", "record has 1 values; expected 2147483647x"),
        ((2**31 - 1, 2**31 - 1, 4), b"1234", "record has 4 values"),  # the product is 4 modulo 2^32
    ],
)
def test_sizes_without_their_values_are_refused_in_batches_too(
    sizes: tuple[int, ...], data: bytes, message: str
) -> None:
    channels, height, width = sizes
    bad = caffe_pb2.Datum(channels=channels, height=height, width=width, data=data).SerializeToString()
    good = encode_datum(np.ones((1, 1, 1), np.uint8))
    with pytest.raises(DataError, match=re.escape(message)):
        parse_datum(bad).array()
    batch, problems = BatchMaker(Transformer()).open_records([good, bad, good])
    assert list(problems) == [1]
    assert message in str(problems[1])
    if len(data) < abs(channels * height * width) or min(sizes) < 1:  # nobody reads behind the record
        with pytest.raises(ValueError, match="place 1 has no image"):
            batch.transform(np.empty((3, 1, 1, 1), np.float32), np.zeros((3, 3), np.int32), None, 1.0, 1)


def test_the_rule_for_sizes_holds_for_numbers_and_arrays() -> None:
    rows = np.array([(3, 4, 5, 60), (3, 4, 5, 61), (1, 1, 1, 1), (0, 1, 1, 0), (-2, -2, 1, 4), (2**31 - 1,) * 3 + (1,)])
    expected = [True, False, True, False, False, False]
    assert sizes_fit(*rows.T.astype(np.int64)).tolist() == expected
    assert [bool(sizes_fit(*map(int, row))) for row in rows] == expected
    assert str(size_error((3, 4, 5), 61)) == "record has 61 values; expected 3x4x5 (channels x height x width)"


def test_every_cut_is_an_error_or_another_whole_record() -> None:
    """Python's reader and the extension's agree on each prefix; none reads past the end."""
    record = caffe_datum(np.ones((1, 2, 2), np.float32), 300) + encode_image(b"abc", 1)
    for end in range(len(record)):
        agree(record[:end])


@given(st.binary(max_size=64))
def test_random_bytes_read_alike(record: bytes) -> None:
    agree(record)


def agree(record: bytes) -> None:
    for batch_type in BATCH_TYPES:
        agree_with(batch_type([record], 1), record)


def agree_with(batch: PlainImageBatch, record: bytes) -> None:
    kind, channels, height, width, label = batch.headers()[0].tolist()
    try:
        datum = parse_datum(record)
    except DataError:
        assert kind == BAD
        assert batch.error(0)
        return
    if datum.encoded:
        assert (kind, label) == (ENCODED, datum.label)
        assert bytes(batch.encoded(0)) == bytes(datum.data)
        return
    assert kind == (BYTES if len(datum.data) else FLOATS)
    assert (channels, height, width) == (datum.channels, datum.height, datum.width)
    assert (label, int(batch.value_counts()[0])) == (datum.label, datum.values().size)


def test_decode_errors_name_the_image() -> None:
    with pytest.raises(DataError, match=r"x.jpg: 3 bytes that cannot be decoded"):
        decode_image(b"abc", name="x.jpg")
    with pytest.raises(DataError, match=r"0 bytes"):
        decode_image(b"")


def test_encode_refuses_other_arrays() -> None:
    with pytest.raises(DataError, match=r"expected uint8 or float32"):
        encode_datum(np.zeros((3, 4), np.uint8))
