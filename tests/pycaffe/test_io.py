"""Images and messages, with Caffe's numbers (scikit-image 0.26, smoothing off; SciPy where it is said)."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe import io

RAMP = np.array([[0, 4], [8, 16]], np.float32)[:, :, None]


def test_resize_takes_pixels_as_areas_with_the_smallest_value_around() -> None:
    # scikit-image: resize(RAMP / 16, (4, 2), order=1, mode="constant") * 16
    assert io.resize_image(RAMP, (4, 2))[:, :, 0].tolist() == [[0, 3], [2, 7], [6, 13], [6, 12]]
    assert io.resize_image(RAMP, (2, 2)).tolist() == RAMP.tolist()
    assert io.resize_image(RAMP, (1, 1)).tolist() == [[[7]]]
    assert io.resize_image(RAMP, (2, 4), interp_order=0)[:, :, 0].tolist() == [[0, 0, 4, 4], [8, 8, 16, 16]]
    assert io.resize_image(RAMP - 20, (4, 2))[0, :, 0].tolist() == [-20, -17], "the smallest value stands for nothing"
    with pytest.raises(ValueError, match="interp_order is 3"):
        io.resize_image(RAMP, (4, 2), 3)


def test_resize_of_a_constant_and_of_other_channels() -> None:
    assert io.resize_image(np.full((3, 3, 3), 7.0), (2, 5)).tolist() == np.full((2, 5, 3), 7).tolist()
    two = np.repeat(RAMP, 2, axis=2)
    # scipy.ndimage.zoom(two, (1.5, 1, 1), order=1): corner to corner
    assert io.resize_image(two, (3, 2))[:, :, 0].tolist() == [[0, 4], [4, 10], [8, 16]]


def test_a_blob_of_raw_values() -> None:
    half, diff = np.array([[1.5, -2]], "<f2"), np.array([[0.25, 4]], "<f4")
    blob = caffe_pb2.BlobProto(raw_data_type=caffe_pb2.FLOAT16, raw_data=half.tobytes())
    blob.shape.dim.extend([1, 2])
    assert io.blobproto_to_array(blob).tolist() == half.tolist()
    blob.raw_diff_type, blob.raw_diff = caffe_pb2.FLOAT, diff.tobytes()
    assert io.blobproto_to_array(blob, return_diff=True).tolist() == diff.tolist()


@pytest.mark.parametrize(
    ("stored", "colour", "gray"),
    [
        (np.array([[[255, 0, 51]]], np.uint8), [0.2, 0, 1], 0.2 * 0.2125 + 0.0721),  # BGR in OpenCV's files
        (np.array([[[255, 0, 51, 9]]], np.uint8), [0.2, 0, 1], 0.2 * 0.2125 + 0.0721),
        (np.array([[51]], np.uint8), [0.2] * 3, 0.2),
        (np.array([[13107]], np.uint16), [0.2] * 3, 0.2),
    ],
)
def test_load_image(tmp_path: Path, stored: np.ndarray, colour: list[float], gray: float) -> None:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), stored)
    image = io.load_image(path)
    assert image.dtype == np.float32
    assert image.shape == (1, 1, 3)
    assert image.ravel() == pytest.approx(colour)
    assert io.load_image(str(path), color=False).ravel() == pytest.approx([gray])
    assert io.load_image(BytesIO(path.read_bytes())).tolist() == image.tolist()  # as scripts have from the network


def test_images_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such image"):
        io.load_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(RuntimeError, match=r"text\.png: cannot be read as an image"):
        io.load_image(tmp_path / "text.png")


def test_oversample() -> None:
    image = np.arange(20, dtype=np.float32).reshape(4, 5, 1)
    crops = io.oversample([image, image + 100], (2, 3))
    assert crops.shape == (20, 2, 3, 1)
    assert [int(crop[0, 0, 0]) for crop in crops[:5]] == [0, 2, 10, 12, 6]
    assert crops[5:10].tolist() == crops[:5, :, ::-1].tolist()
    assert crops[10:].tolist() == (crops[:10] + 100).tolist()


def test_the_transformer_there_and_back() -> None:
    transformer = io.Transformer({"data": (1, 3, 2, 2)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([10.0, 20.0, 30.0]))
    transformer.set_input_scale("data", 0.5)
    image = np.zeros((2, 2, 3), np.float32)
    image[0, 1] = [1, 0.2, 0.4]
    before = image.copy()
    value = transformer.preprocess("data", image)
    assert value.dtype == np.float32
    assert value[:, 0, 1] == pytest.approx([(0.4 * 255 - 10) / 2, (51 - 20) / 2, (255 - 30) / 2])
    assert image.tolist() == before.tolist(), "the caller's image stays as it is"
    assert transformer.deprocess("data", value[None]) == pytest.approx(image, abs=1e-6)


def test_the_transformer_resizes_images_and_means() -> None:
    transformer = io.Transformer({"data": (1, 1, 4, 2)})
    assert transformer.preprocess("data", RAMP).tolist() == io.resize_image(RAMP, (4, 2)).tolist()
    transformer.set_mean("data", RAMP.transpose(2, 0, 1))
    assert transformer.mean["data"].tolist() == io.resize_image(RAMP, (4, 2)).transpose(2, 0, 1).tolist()


def test_what_the_transformer_refuses() -> None:
    transformer = io.Transformer({"data": (1, 3, 2, 2)})
    with pytest.raises(ValueError, match="'image' is not one of the net's inputs: data"):
        transformer.set_raw_scale("image", 255)
    with pytest.raises(ValueError, match="has 2 axes; expected 3"):
        transformer.set_transpose("data", (1, 0))
    with pytest.raises(ValueError, match="has 2; expected 3"):
        transformer.set_channel_swap("data", (1, 0))
    with pytest.raises(ValueError, match="has 2 channels; expected 3"):
        transformer.set_mean("data", np.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1, 1\); expected \(3, 2, 2\), \(2, 2\) or \(3,\)"):
        transformer.set_mean("data", np.zeros((1, 1, 1, 1)))


def test_blob_protos() -> None:
    values = np.arange(6.0).reshape(2, 3)
    blob = io.array_to_blobproto(values, values + 10)
    assert io.blobproto_to_array(blob).tolist() == values.tolist()
    assert io.blobproto_to_array(blob, return_diff=True).tolist() == (values + 10).tolist()
    old = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, data=range(6))
    assert io.blobproto_to_array(old).shape == (1, 2, 1, 3)
    double = caffe_pb2.BlobProto(double_data=[1.5], shape=caffe_pb2.BlobShape(dim=[1]))
    assert io.blobproto_to_array(double).tolist() == [1.5]
    with pytest.raises(ValueError, match="6 values in data, but its shape is"):
        io.blobproto_to_array(caffe_pb2.BlobProto(data=range(6)))
    text = io.arraylist_to_blobprotovector_str([values, values[0]])
    assert [array.tolist() for array in io.blobprotovector_str_to_arraylist(text)] == [values.tolist(), [0, 1, 2]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datums(dtype: type) -> None:
    values: np.ndarray = np.arange(12).reshape(2, 3, 2).astype(dtype)
    datum = io.array_to_datum(values, label=3)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 2, 3)
    assert bool(datum.data) == (dtype is np.uint8)
    assert not io.array_to_datum(values).HasField("label")
    array = io.datum_to_array(datum)
    assert array.tolist() == values.tolist()
    array[0] = 0  # the caller's own
    with pytest.raises(ValueError, match=r"shape \(3,\); expected 3 axes"):
        io.array_to_datum(np.zeros(3))
    datum.height = 9
    with pytest.raises(ValueError, match=r"12 values for shape \(2, 9, 2\)"):
        io.datum_to_array(datum)
    with pytest.raises(ValueError, match="an encoded image"):
        io.datum_to_array(caffe_pb2.Datum(encoded=True))


def test_it_is_reached_as_scripts_reach_it() -> None:
    assert caffe.io is io
    assert io.caffe_pb2.BlobProto is caffe_pb2.BlobProto
