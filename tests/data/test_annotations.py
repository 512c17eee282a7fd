import numpy as np
import pytest

from caffe_compat.data import encode_datum
from caffe_compat.data.annotations import encode_annotated, parse_annotated
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2

IMAGE = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)


def test_there_and_back() -> None:
    boxes = [(2, (0.5, 0.25, 0.75, 1.0), True), (1, (0.0, 0.0, 0.5, 0.5), False), (2, (0.125, 0.25, 0.5, 0.5), False)]
    record = encode_annotated(encode_datum(IMAGE, 7), boxes)
    found = parse_annotated(record)
    assert found.type == "BBOX"
    assert found.has_label
    assert found.datum.label == 7
    assert np.array_equal(found.datum.array(), IMAGE)
    # label by label, objects of a label counted from 0
    assert found.annotations.rows(3).tolist() == [
        [3, 2, 0, 0.5, 0.25, 0.75, 1.0, 1],
        [3, 2, 1, 0.125, 0.25, 0.5, 0.5, 0],
        [3, 1, 0, 0.0, 0.0, 0.5, 0.5, 0],
    ]


def test_wire_numbers_are_ssds() -> None:
    """datum 1, type 2, annotation_group 3 {group_label 1, annotation 2 {instance_id 1, bbox 2}}."""
    record = encode_annotated(b"", [(5, (1.0, 0.0, 0.0, 0.0), False)])
    assert record == bytes.fromhex(
        "0a00 1000 1a 1e 0805 12 1a 0800 12 16 0d0000803f 1500000000 1d00000000 2500000000 3000"
    )


def test_without_boxes_or_type() -> None:
    found = parse_annotated(encode_annotated(encode_datum(IMAGE, None), [], kind=None))
    assert found.type is None
    assert not found.has_label
    assert found.annotations.rows(0).shape == (0, 8)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\xff\xff", "is no AnnotatedDatum"),
        (caffe_pb2.AnnotatedDatum(type="BBOX").SerializeToString(), "has no image"),
    ],
)
def test_refused(record: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_annotated(record)
