from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat.data.box_sampler import check_samplers, sample_boxes, satisfies
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator

GOLDEN = Path(__file__).parent.parent / "golden" / "forks" / "batch_samples.npz"


@pytest.mark.parametrize("name", ["ssd", "mixed"])
def test_as_ssd(name: str) -> None:
    """The same parts bit for bit, and the stream at the same place afterwards."""
    with np.load(GOLDEN) as file:
        data = dict(file)
    param = text_format.Parse(str(data[f"{name}_fields"]), caffe_pb2.AnnotatedDataParameter())
    objects = np.split(data[f"{name}_objects"], np.cumsum(data[f"{name}_counts"])[:-1])
    parts = np.split(data[f"{name}_parts"], np.cumsum(data[f"{name}_found"])[:-1])
    for seed, (own, expected, draw) in enumerate(zip(objects, parts, data[f"{name}_next"], strict=True), 1):
        stream = CaffeGenerator(seed)
        found = sample_boxes(list(param.batch_sampler), own, stream)
        np.testing.assert_array_equal(np.array(found, np.float32).reshape(-1, 4), expected)
        assert stream.raw() == draw


def test_constraints_by_hand() -> None:
    part = np.array([0, 0, 0.5, 1], np.float32)
    objects = np.array([[0.25, 0, 0.75, 1], [0.6, 0, 1, 1]], np.float32)  # shares a quarter; nothing

    def met(fields: str) -> bool:
        return satisfies(part, objects, text_format.Parse(fields, caffe_pb2.SampleConstraint()))

    assert met("")
    assert met("min_jaccard_overlap: 0.33 max_jaccard_overlap: 0.34")
    assert met("max_jaccard_overlap: 0")
    assert not met("min_jaccard_overlap: 0.35")
    assert met("min_sample_coverage: 0.5")
    assert not met("min_object_coverage: 0.51")
    # the overlap that object 1 has counts on, though no object covers enough of the part
    assert met("min_jaccard_overlap: 0.3 min_sample_coverage: 0.9")
    assert not satisfies(part, objects[:0], caffe_pb2.SampleConstraint(min_object_coverage=0.1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("min_scale: 0", "batch_sampler 1: min_scale is 0"),
        ("max_scale: 1.5", "max_scale 1.5"),
        ("min_aspect_ratio: 2", "min_aspect_ratio is 2 and max_aspect_ratio 1"),
    ],
)
def test_refused_ranges(fields: str, message: str) -> None:
    sampler = text_format.Parse(f"sampler {{ {fields} }}", caffe_pb2.BatchSampler())
    with pytest.raises(DataError, match=message):
        check_samplers([sampler])
