from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat import random
from caffe_compat.data import encode_datum
from caffe_compat.data.annotated_transformer import AnnotatedTransformer
from caffe_compat.data.annotations import encode_annotated, parse_annotated
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import generator

GOLDEN = Path(__file__).parent.parent / "golden" / "forks" / "annotated_transformer.npz"
SEED = 11
#: OpenCV's versions round some interpolations and colours differently
PIXEL_TOLERANCE = 1
NAMES = (
    "ssd", "sampled", "expanded", "padded", "mirrored_pad", "small", "cropped", "test", "noise", "noise2", "raw",
)  # fmt: skip


@cache
def golden() -> dict[str, Any]:
    with np.load(GOLDEN) as file:
        return dict(file)


def transformer(fields: str, phase: str = "TRAIN") -> AnnotatedTransformer:
    param = text_format.Parse(fields, caffe_pb2.LayerParameter())
    return AnnotatedTransformer(param.transform_param, phase, param.annotated_data_param.batch_sampler)


@pytest.mark.parametrize("name", NAMES)
def test_as_ssd(name: str) -> None:
    """The same boxes bit for bit, from the same random numbers."""
    data = golden()
    kind = "raw" if name == "raw" else "png"
    ends = np.cumsum(data[f"{kind}_lengths"])
    records = [bytes(part) for part in np.split(data[f"{kind}_bytes"], ends[:-1])]
    boxes = np.split(data[f"{name}_boxes"], np.cumsum(data[f"{name}_counts"])[:-1])
    pixels = np.split(data[f"{name}_pixels"] / 2, np.cumsum(data[f"{name}_shapes"].prod(1))[:-1])
    with random.scope(SEED):
        ours = transformer(str(data[f"{name}_fields"]), str(data[f"{name}_phase"]))
        generator().raw()
        ours.start_random()
        ours.start_random()
        ours.start_thread()
    for record, expected, shape, values in zip(records, boxes, data[f"{name}_shapes"], pixels, strict=True):
        parsed = parse_annotated(record)
        image = ours.image_of(parsed)
        plan = ours.plan(parsed, image)
        np.testing.assert_array_equal(plan.annotations.rows(0)[:, 1:], expected)
        found = ours.apply(image, plan)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values.reshape(shape), rtol=0, atol=PIXEL_TOLERANCE)


def test_names_are_those_of_the_golden_file() -> None:
    assert tuple(golden()["names"]) == NAMES


def test_state_goes_on() -> None:
    fields = str(golden()["ssd_fields"])
    record = parse_annotated(bytes(np.split(golden()["png_bytes"], np.cumsum(golden()["png_lengths"])[:-1])[0]))
    with random.scope(1):
        ours, other = transformer(fields), transformer(fields)
        ours.start_random()
        ours.start_thread()
    image = ours.image_of(record)
    ours.plan(record, image)
    state = ours.get_state()
    expected = [ours.plan(record, image) for _ in range(4)]
    other.set_state(state)
    for plan in expected:
        again = other.plan(record, image)
        assert again.window == plan.window
        assert np.array_equal(again.annotations.boxes, plan.annotations.boxes)
        assert np.array_equal(other.apply(image, again), ours.apply(image, plan))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("crop_h: 3", "crop_h is 3 and crop_w 0; set both"),
        ("expand_param { max_expand_ratio: 1 }", "max_expand_ratio is 1; expected more than 1"),
        ("resize_param { height: 3 }", "height 3 and width 0"),
        ("mean_value: 1 mean_file: 'x'", "mean_file and mean_value are both set"),
    ],
)
def test_refused_fields(fields: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        transformer(f"transform_param {{ {fields} }}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("resize_param { height: 3 width: 3 }", "is raw; resize_param takes encoded images only"),
        ("crop_h: 3 crop_w: 3", "is raw; crop_h and crop_w takes encoded"),
    ],
)
def test_raw_records_are_not_resized(fields: str, message: str) -> None:
    record = parse_annotated(encode_annotated(encode_datum(np.zeros((3, 5, 5), np.uint8)), []))
    with pytest.raises(DataError, match=message):
        transformer(f"transform_param {{ {fields} }}").image_of(record)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"image is 5x9 .* the crop of 6x6"):
        transformer("transform_param { crop_size: 6 }").output_shape(5, 9, 3)
    with pytest.raises(DataError, match="2 mean_value for 3 channels"):
        transformer("transform_param { mean_value: 6 mean_value: 5 }").output_shape(5, 9, 3)
