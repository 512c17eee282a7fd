from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe_compat.data import encode_datum, encode_image, write_lmdb
from caffe_compat.data.annotated_source import AnnotatedSource
from caffe_compat.data.annotated_transformer import AnnotatedTransformer
from caffe_compat.data.annotations import encode_annotated
from caffe_compat.data.database import open_database
from caffe_compat.errors import DataError
from caffe_compat.proto.caffe_pb2 import TransformationParameter
from tests.data.conftest import noise_images

IMAGES = noise_images(5)
BOXES = [(1, (0.25, 0.25, 0.5, 0.75), False), (2, (0.5, 0.0, 1.0, 0.5), True)]


def record(number: int, boxes: int = 2, kind: str | None = "BBOX") -> bytes:
    return encode_annotated(encode_datum(IMAGES[number], number), BOXES[:boxes], kind)


def make_source(path: Path, *records: bytes, batch: int = 2, **options: object) -> AnnotatedSource:
    write_lmdb(path / "db", ((f"{i:08d}", value) for i, value in enumerate(records)))
    transformer = AnnotatedTransformer(TransformationParameter(), "TEST")
    given = {"anno_type": None, **options}
    return AnnotatedSource(open_database(path / "db"), transformer, batch, **given)  # type: ignore[arg-type]


def test_batches_and_their_boxes(tmp_path: Path) -> None:
    source = make_source(tmp_path, record(0), record(1, 0), record(2, 1), record(3, 0), record(4, 0), batch=3)
    data, boxes = source.load()
    assert torch.equal(data, torch.from_numpy(IMAGES[:3]).float())
    first = [[0, 1, 0, 0.25, 0.25, 0.5, 0.75, 0], [0, 2, 0, 0.5, 0, 1, 0.5, 1]]
    assert boxes[0, 0].tolist() == [*first, [2, 1, 0, 0.25, 0.25, 0.5, 0.75, 0]]
    data, boxes = source.load()  # 3, 4 and 0 again
    assert boxes[0, 0].tolist() == [[2, *row[1:]] for row in first]
    source.close()


def test_a_batch_without_boxes_has_a_row_of_minus_one(tmp_path: Path) -> None:
    source = make_source(tmp_path, record(0, 0), record(1, 0))
    assert source.load()[1].tolist() == [[[[-1.0] * 8]]]
    source.close()


def test_labels_where_there_is_no_type(tmp_path: Path) -> None:
    source = make_source(tmp_path, record(3, kind=None), record(4, kind=None))
    assert not source.has_boxes
    assert source.load()[1].tolist() == [3, 4]
    source.close()


def test_state_goes_on(tmp_path: Path) -> None:
    source = make_source(tmp_path, *(record(i) for i in range(5)))
    source.load()
    state = source.state()
    expected = [source.load()[0] for _ in range(3)]
    source.set_state(state)
    assert all(torch.equal(source.load()[0], data) for data in expected)
    source.close()


def test_bad_records_may_be_passed_over(tmp_path: Path) -> None:
    source = make_source(tmp_path, record(0), b"\xff", record(2), skip_bad_records=1)
    assert torch.equal(source.load()[0], torch.from_numpy(IMAGES[[0, 2]]).float())
    source.close()
    (tmp_path / "more").mkdir()
    source = make_source(tmp_path / "more", record(0), b"\xff")
    with pytest.raises(DataError, match="record '00000001': is no AnnotatedDatum"):
        source.load()
    source.close()


def test_types(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'00000000': is of type LANE; expected BBOX"):
        make_source(tmp_path, record(0, kind="LANE"))
    (tmp_path / "more").mkdir()
    source = make_source(tmp_path / "more", record(0), record(1, kind=None))
    with pytest.raises(DataError, match="'00000001': has no type"):
        source.load()
    source.close()


def test_sizes_that_differ(tmp_path: Path) -> None:
    small = np.ascontiguousarray(IMAGES[0].transpose(1, 2, 0)[:8])
    png = encode_annotated(encode_image(cv2.imencode(".png", small)[1].tobytes()), BOXES)
    source = make_source(tmp_path, record(0), png)
    with pytest.raises(DataError, match=r"sizes \[\(8, 14\), \(12, 14\)\] .* expected one: set resize_param"):
        source.load()
    source.close()
