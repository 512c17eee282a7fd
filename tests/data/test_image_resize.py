import cv2
import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat.data.image_resize import Resize
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images

IMAGE = np.ascontiguousarray(noise_images(1)[0].transpose(1, 2, 0))  # 12 x 14
WHOLE = np.array([[0, 0, 1, 1]], np.float32)


def resize(fields: str) -> Resize:
    return Resize(text_format.Parse(fields, caffe_pb2.ResizeParameter()))


def resized(setting: Resize, seed: int = 1) -> np.ndarray:
    return setting.plan(12, 14, 3, CaffeGenerator(seed))(IMAGE)


def test_warp() -> None:
    setting = resize("height: 20 width: 7")
    assert setting.new_size(12, 14) == (20, 7)
    assert np.array_equal(resized(setting), cv2.resize(IMAGE, (7, 20)))
    assert np.array_equal(setting.move_boxes(WHOLE, 12, 14), WHOLE)


def test_large_side_fits_and_the_rest_is_padded() -> None:
    setting = resize("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 21 width: 7 pad_value: 9")
    found = resized(setting)  # 7 wide, 6 high, 7 rows above and 8 below
    assert np.array_equal(found[7:13], cv2.resize(IMAGE, (7, 6)))
    assert (found[:7] == 9).all()
    assert (found[13:] == 9).all()
    # boxes by the padding of half a pixel more
    np.testing.assert_allclose(setting.move_boxes(WHOLE, 12, 14), [[0, 7.5 / 21, 1, 13.5 / 21]], rtol=1e-6)


def test_small_side_fits() -> None:
    setting = resize("resize_mode: FIT_SMALL_SIZE height: 6 width: 6 height_scale: 3 width_scale: 2")
    assert setting.new_size(12, 14) == (6, 7)
    assert np.array_equal(resized(setting), cv2.resize(IMAGE, (7, 6)))
    crop = np.array([0, 0, 1, 0.5], np.float32)  # 7 x 3 pixels
    np.testing.assert_allclose(setting.extrapolate(WHOLE, 12, 14, crop), [[0, 0, 7 / 2, 1]], rtol=1e-6)
    with pytest.raises(DataError, match=r"a part of 7x1.5 pixels .* is smaller than width_scale 2 and height_scale 3"):
        setting.extrapolate(WHOLE, 12, 14, np.array([0, 0, 1, 0.25], np.float32))


def test_the_interpolation_is_drawn_evenly() -> None:
    setting = resize("height: 20 width: 7 interp_mode: NEAREST interp_mode: CUBIC")
    choices = [cv2.resize(IMAGE, (7, 20), interpolation=mode) for mode in (cv2.INTER_NEAREST, cv2.INTER_CUBIC)]
    for seed in range(6):
        first = CaffeGenerator(seed).uniform((1,), 0, 1)[0] <= 0.5
        assert np.array_equal(resized(setting, seed), choices[0 if first else 1])


def test_refusals() -> None:
    with pytest.raises(DataError, match="height 0 and width 3; expected at least 1 of each"):
        resize("width: 3")
    with pytest.raises(DataError, match="2 pad_value for 3 channels"):
        resized(resize("height: 3 width: 3 pad_value: 1 pad_value: 2"))
