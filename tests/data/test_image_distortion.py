import cv2
import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat.data.image_distortion import Distortion
from caffe_compat.data.image_step import scaled, take_steps
from caffe_compat.data.libc_random import LibcRandom
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images

IMAGE = np.ascontiguousarray(noise_images(1)[0].transpose(1, 2, 0))


def distorted(fields: str, seed: int = 1) -> np.ndarray:
    setting = Distortion(text_format.Parse(fields, caffe_pb2.DistortionParameter()))
    return take_steps(IMAGE, setting.plan(CaffeGenerator(seed), LibcRandom()))


def numbers(seed: int, *ranges: tuple[float, float]) -> list[np.float32]:
    stream = CaffeGenerator(seed)
    return [stream.uniform((1,), *ends)[0] for ends in ranges]


UNIT = (0.0, 1.0)


def test_nothing_is_asked_for() -> None:
    assert np.array_equal(distorted(""), IMAGE)


def test_brightness() -> None:
    *_, delta = numbers(1, UNIT, UNIT, (-32, 32))
    assert np.array_equal(distorted("brightness_prob: 1 brightness_delta: 32"), scaled(IMAGE, 1, float(delta)))


@pytest.mark.parametrize("seed", range(4))
def test_contrast_comes_second_or_last(seed: int) -> None:
    fields = "contrast_prob: 1 contrast_lower: 0.5 contrast_upper: 1.5"
    first = numbers(seed, UNIT)[0] > 0.5
    before = (UNIT, UNIT, UNIT) if first else (UNIT, UNIT, UNIT, UNIT, UNIT)
    *_, factor = numbers(seed, *before, (0.5, 1.5))
    assert np.array_equal(distorted(fields, seed), scaled(IMAGE, float(factor), 0))


def test_saturation_and_hue_in_hsv() -> None:
    seed = next(s for s in range(20) if numbers(s, UNIT)[0] <= 0.5)  # contrast last
    found = distorted("saturation_prob: 1 saturation_lower: 0.5 saturation_upper: 1.5 hue_prob: 1 hue_delta: 18", seed)
    _, _, _, factor, _, delta = numbers(seed, UNIT, UNIT, UNIT, (0.5, 1.5), UNIT, (-18, 18))
    image = IMAGE
    for channel, change in ((1, (float(factor), 0.0)), (0, (1.0, float(delta)))):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[:, :, channel] = scaled(hsv[:, :, channel].astype(np.uint8), *change)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    assert np.array_equal(found, image)


def test_order_of_channels() -> None:
    order = [0, 1, 2]
    LibcRandom().shuffle(order)
    assert np.array_equal(distorted("random_order_prob: 1.1"), IMAGE[:, :, order])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("hue_delta: -1", "hue_delta is -1; expected at least 0"),
        ("contrast_lower: 2 contrast_upper: 1", "contrast_lower is 2 and contrast_upper 1"),
    ],
)
def test_refused_ranges(fields: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        distorted(fields)
