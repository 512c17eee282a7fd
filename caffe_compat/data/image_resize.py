"""SSD's ``resize_param``: images brought to one size, and their boxes with them.

Sizes and boxes are float32, in SSD's steps.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from caffe_compat.data.annotations import Boxes
from caffe_compat.data.box_sampler import uniform
from caffe_compat.data.image_step import Image, Step
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator

_INTERPOLATIONS = {
    "LINEAR": cv2.INTER_LINEAR,
    "AREA": cv2.INTER_AREA,
    "NEAREST": cv2.INTER_NEAREST,
    "CUBIC": cv2.INTER_CUBIC,
    "LANCZOS4": cv2.INTER_LANCZOS4,
}
_BORDERS = {
    "CONSTANT": cv2.BORDER_CONSTANT,
    "MIRRORED": cv2.BORDER_REFLECT_101,
    "REPEAT_NEAREST": cv2.BORDER_REPLICATE,
}
_F = np.float32


class Resize:
    """The settings of a ResizeParameter; ``prob`` has no effect, as in SSD."""

    def __init__(self, param: caffe_pb2.ResizeParameter) -> None:
        """Raises DataError without height or width."""
        if param.height < 1 or param.width < 1:
            raise DataError(
                f"resize_param has height {param.height} and width {param.width}; expected at least 1 of each"
            )
        self.height, self.width = int(param.height), int(param.width)
        self.mode: str = param.Resize_mode.Name(param.resize_mode)
        self._border = _BORDERS[param.Pad_mode.Name(param.pad_mode)]
        self._pad_values = list(param.pad_value)
        self._interpolations = [_INTERPOLATIONS[param.Interp_mode.Name(mode)] for mode in param.interp_mode]
        self._scales = int(param.width_scale), int(param.height_scale)

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size gets."""
        aspect = _F(width) / _F(height)
        if self.mode != "FIT_SMALL_SIZE":
            return self.height, self.width
        if aspect < _F(self.width) / _F(self.height):
            return max(1, int(_F(self.width) / aspect)), self.width
        return self.height, max(1, int(aspect * _F(self.height)))

    def plan(self, height: int, width: int, channels: int, stream: CaffeGenerator) -> Step:
        """What resizes an image of this size; draws the interpolation where several are given."""
        interpolation = cv2.INTER_LINEAR
        if self._interpolations:
            share = _F(1) / _F(len(self._interpolations))
            ends = np.cumsum(np.full(len(self._interpolations), share, np.float32), dtype=np.float32)
            interpolation = self._interpolations[int(np.searchsorted(ends, uniform(stream, 0, float(ends[-1]))))]
        if len(self._pad_values) not in (0, 1, channels):
            raise DataError(f"{len(self._pad_values)} pad_value for {channels} channels; expected 1, or one for each")
        if self.mode != "FIT_LARGE_SIZE_AND_PAD":
            new_height, new_width = self.new_size(height, width)
            return lambda image: _resized(image, new_height, new_width, interpolation)
        return self._plan_padded(height, width, channels, interpolation)

    def _plan_padded(self, height: int, width: int, channels: int, interpolation: int) -> Step:
        aspect = _F(width) / _F(height)
        inner = self.height, self.width
        if aspect > _F(self.width) / _F(self.height):
            inner = max(1, math.floor(_F(self.width) / aspect)), self.width
        else:
            inner = self.height, max(1, math.floor(aspect * _F(self.height)))
        top, left = (self.height - inner[0]) // 2, (self.width - inner[1]) // 2
        bottom, right = self.height - inner[0] - top, self.width - inner[1] - left
        values = self._pad_values * (channels if len(self._pad_values) == 1 else 1) or [0.0]

        def step(image: Image) -> Image:
            small = _resized(image, *inner, interpolation)
            padded = cv2.copyMakeBorder(small, top, bottom, left, right, self._border, value=values)
            return np.asarray(padded, np.uint8)

        return step

    def move_boxes(self, boxes: Boxes, height: int, width: int) -> Boxes:
        """Boxes (B, 4) of an image of this size as parts of the resized one."""
        if not len(boxes):
            return boxes
        aspect = _F(width) / _F(height)
        size = np.array([self.width, self.height], np.float32)  # x, y
        old = np.array([width, height], np.float32)
        wide = aspect > size[0] / size[1]
        if self.mode == "FIT_SMALL_SIZE":
            size = np.array([size[0], size[0] / aspect] if aspect < size[0] / size[1] else [aspect * size[1], size[1]])
            size = size.astype(np.float32)
        low, high = boxes[:, :2] * old, boxes[:, 2:] * old
        padding = np.zeros(2, np.float32)
        if self.mode == "FIT_LARGE_SIZE_AND_PAD":
            if wide:
                padding[1] = (size[1] - size[0] / aspect) / _F(2)
            else:
                padding[0] = (size[0] - aspect * size[1]) / _F(2)
        inner = size - _F(2) * padding
        low, high = low * inner / old, high * inner / old
        low, high = padding + np.maximum(_F(0), low), padding + np.minimum(size, high)
        return np.concatenate((low / size, high / size), 1).astype(np.float32)

    def extrapolate(self, boxes: Boxes, height: int, width: int, crop: npt.NDArray[np.float32]) -> Boxes:
        """Boxes (B, 4) of the part ``crop`` (4) of an image of this size in units of height_scale and width_scale,
        where these are set (FIT_SMALL_SIZE)."""
        if self.mode != "FIT_SMALL_SIZE" or not all(self._scales):
            return boxes
        aspect = _F(width) / _F(height)
        net_height, net_width = _F(self.height), _F(self.width)
        if aspect < net_width / net_height:
            net_height = net_width / aspect
        else:
            net_width = net_height * aspect
        sizes = np.array([net_width * (crop[2] - crop[0]), net_height * (crop[3] - crop[1])] * 2, np.float32)
        scales = np.array(self._scales * 2, np.float32)
        if (sizes < scales).any():
            raise DataError(
                f"a part of {sizes[0]:g}x{sizes[1]:g} pixels (width x height) is smaller than width_scale "
                f"{self._scales[0]} and height_scale {self._scales[1]}"
            )
        return (boxes * sizes / scales).astype(np.float32)


def _resized(image: Image, height: int, width: int, interpolation: int) -> Image:
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
