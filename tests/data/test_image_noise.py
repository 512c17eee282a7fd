import cv2
import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat.data.image_noise import Noise
from caffe_compat.data.image_step import take_steps
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images

IMAGE = np.ascontiguousarray(noise_images(1)[0].transpose(1, 2, 0))


def noisy(fields: str, image: np.ndarray = IMAGE) -> np.ndarray:
    setting = Noise(text_format.Parse(fields, caffe_pb2.NoiseParameter()))
    return take_steps(image, setting.plan(image.shape[0], image.shape[1], image.shape[2], CaffeGenerator(1)))


def test_whole_images() -> None:
    gray = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(noisy("decolorize: true"), np.repeat(gray[:, :, None], 3, 2))
    assert np.array_equal(noisy("gauss_blur: true"), cv2.GaussianBlur(IMAGE, (7, 7), 1.5))
    assert np.array_equal(noisy("inverse: true"), 255 - IMAGE)
    assert noisy("posterize: true")[0].tolist() == [[v // 64 * 64 + 32 for v in place] for place in IMAGE[0].tolist()]
    assert np.array_equal(noisy("convert_to_hsv: true"), cv2.cvtColor(IMAGE, cv2.COLOR_BGR2HSV))
    data = cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    assert np.array_equal(noisy("jpeg: 30"), np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)))


def test_erosion_takes_the_least_of_a_cross() -> None:
    large = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)), constant_values=255)
    moved = [large[1:-1, 1:-1], large[:-2, 1:-1], large[2:, 1:-1], large[1:-1, :-2], large[1:-1, 2:]]
    assert np.array_equal(noisy("erode: true"), np.min(moved, 0))


def test_histograms_of_luma() -> None:
    for fields, change in (("hist_eq: true", cv2.equalizeHist), ("clahe: true", cv2.createCLAHE(4.0).apply)):
        parts = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2YCrCb)
        parts[:, :, 0] = change(parts[:, :, 0].copy())
        assert np.array_equal(noisy(fields), cv2.cvtColor(parts, cv2.COLOR_YCrCb2BGR))
        assert np.array_equal(noisy(fields, IMAGE[:, :, :1])[:, :, 0], change(IMAGE[:, :, 0].copy()))


def test_salt_and_pepper() -> None:
    height, width, _ = IMAGE.shape
    expected, stream = IMAGE.copy(), CaffeGenerator(1)
    for _ in range(int(0.25 * height * width)):
        column, row = stream.raw() % width, stream.raw() % height
        expected[row, column] = (1, 2, 3)
    fields = "saltpepper: true saltpepper_param { fraction: 0.25 value: 1 value: 2 value: 3 }"
    assert np.array_equal(noisy(fields), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("convert_to_lab: true", "convert_to_lab"),
        ("saltpepper: true", "without saltpepper_param.value"),
        ("saltpepper_param { fraction: 2 }", "fraction is 2; expected 0 to 1"),
        ("saltpepper: true saltpepper_param { value: 1 value: 2 }", "2 saltpepper_param.value for 3 channels"),
    ],
)
def test_refused(fields: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        noisy(fields)
