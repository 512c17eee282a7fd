"""SSD's ``noise_param``: blur, histogram, JPEG, erosion, salt and pepper, each for every image where it is set."""

import math
from functools import partial

import cv2
import numpy as np

from caffe_compat.data.image_step import Image, Step
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator

_POSTERIZED = 64  # values of a band that become its middle
_CLIP_LIMIT = 4.0


class Noise:
    """The settings of a NoiseParameter; ``prob`` has no effect, as in SSD."""

    def __init__(self, param: caffe_pb2.NoiseParameter) -> None:
        """Raises DataError for what SSD cannot do."""
        if param.convert_to_lab:
            raise DataError("noise_param.convert_to_lab: SSD reads the numbers that it gives as bytes; remove it")
        if param.saltpepper and not param.saltpepper_param.value:
            raise DataError("noise_param.saltpepper is set without saltpepper_param.value; give 1 value, or 3")
        if not 0 <= param.saltpepper_param.fraction <= 1:
            raise DataError(f"saltpepper_param.fraction is {param.saltpepper_param.fraction:g}; expected 0 to 1")
        self._param = param

    def plan(self, height: int, width: int, channels: int, stream: CaffeGenerator) -> list[Step]:
        """The steps for an image of this size; draws the places of salt and pepper."""
        param = self._param
        chosen: list[tuple[bool, Step]] = [
            (param.decolorize, _decolorize),
            (param.gauss_blur, lambda image: np.asarray(cv2.GaussianBlur(image, (7, 7), 1.5), np.uint8)),
            (param.hist_eq, partial(_on_luma, change=_equalize)),
            (param.clahe, partial(_on_luma, change=_clahe)),
            (param.jpeg > 0, partial(_through_jpeg, quality=int(param.jpeg))),
            (param.erode, _erode),
            (param.posterize, _posterize),
            (param.inverse, lambda image: 255 - image),
        ]
        steps = [step for wanted, step in chosen if wanted]
        channels = 3 if param.jpeg > 0 or param.decolorize else channels
        if param.saltpepper:
            steps.append(self._plan_salt(height, width, channels, stream))
        if param.convert_to_hsv:
            steps.append(lambda image: np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), np.uint8))
        return steps

    def _plan_salt(self, height: int, width: int, channels: int, stream: CaffeGenerator) -> Step:
        salt = self._param.saltpepper_param
        if len(salt.value) not in (1, channels):
            raise DataError(f"{len(salt.value)} saltpepper_param.value for {channels} channels; expected 1, or as many")
        number = math.floor(np.float32(salt.fraction) * np.float32(width) * np.float32(height))
        draws = stream.raws((number, 2))
        columns, rows = draws[:, 0] % width, draws[:, 1] % height
        values = np.array(salt.value, np.float32).astype(np.uint8)

        def step(image: Image) -> Image:
            image = image.copy()
            image[rows, columns] = values
            return image

        return step


def _decolorize(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)


def _on_luma(image: Image, change: Step) -> Image:
    if image.ndim == 2 or image.shape[2] == 1:
        return change(image)
    parts = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
    parts[:, :, 0] = change(np.ascontiguousarray(parts[:, :, 0]))
    return np.asarray(cv2.cvtColor(parts, cv2.COLOR_YCrCb2BGR), np.uint8)


def _equalize(image: Image) -> Image:
    return np.asarray(cv2.equalizeHist(image), np.uint8)


def _clahe(image: Image) -> Image:
    return np.asarray(cv2.createCLAHE(_CLIP_LIMIT).apply(image), np.uint8)


def _through_jpeg(image: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _erode(image: Image) -> Image:
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3), (1, 1))
    return np.asarray(cv2.erode(image, shape), np.uint8)


def _posterize(image: Image) -> Image:
    return (image // _POSTERIZED * _POSTERIZED + _POSTERIZED // 2).astype(np.uint8)
