"""SSD's ``distort_param``: random brightness, contrast, saturation, hue and order of channels.

Numbers come from the stream in SSD's order; the order of channels from the C library's ``rand()``.
"""

from functools import partial

import cv2
import numpy as np

from caffe_compat.data.box_sampler import uniform
from caffe_compat.data.image_step import Image, Step, scaled
from caffe_compat.data.libc_random import LibcRandom
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator


class Distortion:
    """The settings of a DistortionParameter; for images of three channels."""

    def __init__(self, param: caffe_pb2.DistortionParameter) -> None:
        """Raises DataError for ranges that SSD refuses when it draws from them."""
        for name in ("brightness_delta", "hue_delta"):
            if getattr(param, name) < 0:
                raise DataError(f"distort_param.{name} is {getattr(param, name):g}; expected at least 0")
        for name in ("contrast", "saturation"):
            low, high = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
            if not 0 <= low <= high:
                raise DataError(
                    f"distort_param.{name}_lower is {low:g} and {name}_upper {high:g}; expected 0 <= lower <= upper"
                )
        self._param = param

    def plan(self, stream: CaffeGenerator, libc: LibcRandom) -> list[Step]:
        """The steps for the next image."""
        first = uniform(stream, 0, 1) > 0.5
        steps = self._brightness(stream)
        if first:
            steps += self._contrast(stream)
        steps += self._saturation(stream) + self._hue(stream)
        if not first:
            steps += self._contrast(stream)
        return steps + self._order(stream, libc)

    def _brightness(self, stream: CaffeGenerator) -> list[Step]:
        delta = self._draw(stream, self._param.brightness_prob, *_around(self._param.brightness_delta))
        return [] if delta is None or delta == 0 else [lambda image: scaled(image, 1, float(delta))]

    def _contrast(self, stream: CaffeGenerator) -> list[Step]:
        param = self._param
        factor = self._draw(stream, param.contrast_prob, param.contrast_lower, param.contrast_upper)
        if factor is None or not abs(float(factor - np.float32(1))) > 1e-3:
            return []
        return [lambda image: scaled(image, float(factor), 0)]

    def _saturation(self, stream: CaffeGenerator) -> list[Step]:
        param = self._param
        factor = self._draw(stream, param.saturation_prob, param.saturation_lower, param.saturation_upper)
        return [] if factor is None else [partial(_change_hsv, channel=1, factor=float(factor), offset=0)]

    def _hue(self, stream: CaffeGenerator) -> list[Step]:
        delta = self._draw(stream, self._param.hue_prob, *_around(self._param.hue_delta))
        return [] if delta is None or delta == 0 else [partial(_change_hsv, channel=0, factor=1, offset=float(delta))]

    def _order(self, stream: CaffeGenerator, libc: LibcRandom) -> list[Step]:
        if not uniform(stream, 0, 1) < np.float32(self._param.random_order_prob):
            return []
        order = [0, 1, 2]
        libc.shuffle(order)
        return [lambda image: np.ascontiguousarray(image[:, :, order])]

    def _draw(self, stream: CaffeGenerator, probability: float, low: float, high: float) -> np.float32 | None:
        """A number from ``low`` to ``high``, or None with a probability of 1 - ``probability``."""
        return uniform(stream, low, high) if uniform(stream, 0, 1) < np.float32(probability) else None


def _around(delta: float) -> tuple[float, float]:
    return -delta, delta


def _change_hsv(image: Image, *, channel: int, factor: float, offset: float) -> Image:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[:, :, channel] = scaled(np.ascontiguousarray(hsv[:, :, channel]), factor, offset)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)
