from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat.data.segmentation import DenseTransform, ScaledTransform, read_pixels
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images

IMAGE = np.ascontiguousarray(noise_images(1)[0].transpose(1, 2, 0))  # 12 x 14
LABEL = noise_images(1, (1, 12, 14), seed=1)[0, 0] % 5
SEED = 3


@pytest.fixture
def folder(tmp_path: Path) -> str:
    cv2.imwrite(str(tmp_path / "image.png"), IMAGE)
    cv2.imwrite(str(tmp_path / "label.png"), LABEL)
    cv2.imwrite(str(tmp_path / "small.png"), LABEL[:5])
    return f"{tmp_path}/"


def dense(fields: str, **plain: object) -> DenseTransform:
    param = text_format.Parse(fields, caffe_pb2.DenseImageDataParameter())
    transform = DenseTransform(param, Transformer(**plain))  # type: ignore[arg-type]
    transform.plain.random = CaffeGenerator(SEED)
    return transform


def scaled(fields: str = "", image_fields: str = "label_type: PIXEL", phase: str = "TRAIN") -> ScaledTransform:
    param = text_format.Parse(fields, caffe_pb2.TransformationParameter())
    image_param = text_format.Parse(image_fields, caffe_pb2.ImageDataParameter())
    plain = Transformer(mirror=param.mirror, mean_value=list(param.mean_value), scale=param.scale, phase=phase)
    transform = ScaledTransform(image_param, param, plain)
    plain.random = CaffeGenerator(SEED)
    return transform


def transformed(
    transform: DenseTransform | ScaledTransform, folder: str, label: str = "label.png"
) -> tuple[np.ndarray, np.ndarray]:
    pair = transform.read(folder, "image.png", label)
    return transform.apply(pair, transform.draw(pair))


def test_dense_is_mirrored_then_cropped(folder: str) -> None:
    for seed in range(3):
        transform = dense("mirror: true crop_height: 5 crop_width: 6", mean_value=[10, 20, 30], scale=0.5)
        transform.plain.random = CaffeGenerator(seed)
        data, label = transformed(transform, folder)
        stream = CaffeGenerator(seed)
        step = -1 if stream.raw() % 2 else 1
        top, left = stream.raw() % 8, stream.raw() % 9
        place = np.s_[top : top + 5, left : left + 6]
        expected = (IMAGE[:, ::step][place].astype(np.float32) - np.array([10, 20, 30], np.float32)) * np.float32(0.5)
        assert np.array_equal(data, expected.transpose(2, 0, 1))
        assert np.array_equal(label, LABEL[:, ::step][place][None])


def test_dense_labels_are_resized_to_the_nearest(folder: str) -> None:
    data, label = transformed(dense("new_height: 7 new_width: 9"), folder)
    assert np.array_equal(data, cv2.resize(IMAGE, (9, 7)).transpose(2, 0, 1))
    assert np.array_equal(label[0], cv2.resize(LABEL, (9, 7), interpolation=cv2.INTER_NEAREST))


@pytest.mark.parametrize("seed", range(4))
def test_scaled_padded_cropped_mirrored(seed: int, folder: str) -> None:
    fields = "mirror: true crop_size: 13 scale_factors: 0.5 scale_factors: 1.5 mean_value: 10 scale: 2"
    transform = scaled(fields)
    transform.plain.random = stream = CaffeGenerator(seed)
    data, label = transformed(transform, folder)
    stream = CaffeGenerator(seed)
    mirror, factor = stream.raw() % 2, (0.5, 1.5)[stream.raw() % 2]
    height, width = int(12 * factor), int(14 * factor)
    image = cv2.resize(IMAGE, (width, height)).astype(np.float32)
    labels = cv2.resize(LABEL, (width, height), interpolation=cv2.INTER_NEAREST)
    room = (0, max(0, 13 - height)), (0, max(0, 13 - width))
    image = np.pad(image, (*room, (0, 0)), constant_values=10)
    labels = np.pad(labels, room, constant_values=255)
    top, left = stream.raw() % (image.shape[0] - 12), stream.raw() % (image.shape[1] - 12)
    place = np.s_[top : top + 13, left : left + 13]
    step = -1 if mirror else 1
    assert np.array_equal(data, ((image[place] - 10) * 2)[:, ::step].transpose(2, 0, 1))
    assert np.array_equal(label[0], labels[place][:, ::step])


def test_scaled_takes_the_middle_in_test(folder: str) -> None:
    data, label = transformed(scaled("crop_height: 4 crop_width: 6", phase="TEST"), folder)
    assert np.array_equal(data, IMAGE[4:8, 4:10].transpose(2, 0, 1))
    assert np.array_equal(label[0], LABEL[4:8, 4:10])


@pytest.mark.parametrize(
    ("fields", "expected"), [("", 7), ("label_type: NONE", 255), ("label_type: NONE ignore_label: 3", 3)]
)
def test_one_label_for_all_pixels(fields: str, expected: int, folder: str) -> None:
    assert (transformed(scaled("", fields), folder, "7x")[1] == expected).all()


def test_refusals(folder: str) -> None:
    with pytest.raises(DataError, match=r"image.png is 12x14 and small.png 5x14 .* expected the same size"):
        dense("").read(folder, "image.png", "small.png")
    with pytest.raises(DataError, match=r"is 12x14 .* at least the crop of 13x3"):
        dense("crop_height: 13 crop_width: 3").output_size(12, 14)
    with pytest.raises(DataError, match="smaller than the crop of 20x20; mean_value is needed"):
        transformed(scaled("crop_size: 20"), folder)


def test_pixels_of_a_file(folder: str) -> None:
    gray = read_pixels(folder + "label.png", 0, 0, color=False)
    assert gray.shape == (12, 14, 1)
    assert np.array_equal(gray[:, :, 0], LABEL)
