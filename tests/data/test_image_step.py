import cv2
import numpy as np
import pytest

from caffe_compat.data.image_step import recode, scaled, take_steps
from caffe_compat.errors import DataError
from tests.data.conftest import noise_images

IMAGE = np.ascontiguousarray(noise_images(1)[0].transpose(1, 2, 0))


@pytest.mark.parametrize(("factor", "offset"), [(1.0, -31.5), (1.37, 0.0), (0.5, 0.5)])
def test_scaled_rounds_halves_to_even_and_cuts(factor: float, offset: float) -> None:
    expected = [
        min(255, max(0, round(float(np.float32(v) * np.float32(factor) + np.float32(offset))))) for v in range(256)
    ]
    assert scaled(np.arange(256, dtype=np.uint8)[None, :, None], factor, offset).ravel().tolist() == expected


def test_recode_is_a_jpeg_of_quality_95() -> None:
    _, data = cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert np.array_equal(recode(IMAGE), np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)))


def test_steps_in_order_keep_three_axes() -> None:
    found = take_steps(IMAGE, [lambda image: image + 1, lambda image: image[:, :, 0] * 2])
    assert np.array_equal(found[:, :, 0], (IMAGE[:, :, 0] + 1) * 2)
    assert found.shape == (*IMAGE.shape[:2], 1)


def test_what_opencv_refuses_is_one_line() -> None:
    with pytest.raises(DataError, match="cannot be transformed: OpenCV"):
        take_steps(IMAGE[:, :, :1], [lambda image: np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), np.uint8)])
