"""Images and the labels of their pixels, transformed alike: SegNet's and DeepLab's rules.

H W: height, width; C: channels.  Random numbers come from a stream of the transform's own.
"""

from typing import NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from caffe_compat.data.image_list import decode_resized, read_file
from caffe_compat.data.image_step import Image
from caffe_compat.data.transformer import CropWindow, Transformer, transform_image
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator, generator

Values = npt.NDArray[np.float32]


class Pair(NamedTuple):
    """An image and the labels of its pixels, as read."""

    image: Image  # (H, W, C) BGR
    label: Image  # (H, W)


class Window(NamedTuple):
    """What is drawn for one image."""

    top: int
    left: int
    mirror: bool
    factor: float = 1.0  # by which it is resized


class PairTransform(Protocol):
    """How a pair of files becomes data and labels."""

    plain: Transformer

    def read(self, root: str, image: str, label: str) -> Pair: ...
    def draw(self, pair: Pair) -> Window: ...
    def apply(self, pair: Pair, window: Window) -> tuple[Values, Values]: ...
    def output_size(self, height: int, width: int) -> tuple[int, int]: ...


def read_pixels(path: str, height: int, width: int, *, color: bool, nearest: bool = False) -> Image:
    """The image (H, W, C) of a file, resized where height and width are given."""
    if not nearest or not height:
        return np.asarray(decode_resized(read_file(path), path, height, width, color), np.uint8)
    image = decode_resized(read_file(path), path, color=color)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8).reshape(height, width, -1)


class DenseTransform:
    """SegNet's DenseImageData: mirrored, then cropped at random in both phases; labels stay as they are."""

    def __init__(self, param: caffe_pb2.DenseImageDataParameter, plain: Transformer) -> None:
        self.plain = plain
        self._size = param.new_height, param.new_width
        self._crop = param.crop_height, param.crop_width
        self._color, self._mirror = param.is_color, param.mirror

    def start_random(self) -> None:
        """Seed the stream by a draw of the process-wide one, where it is used."""
        if self._mirror or self._crop[0]:
            self.plain.random = CaffeGenerator(generator().raw())

    def read(self, root: str, image: str, label: str) -> Pair:
        """The contents of the files below ``root``; DataError where their sizes differ."""
        pair = Pair(
            read_pixels(root + image, *self._size, color=self._color),
            read_pixels(root + label, *self._size, color=False, nearest=True)[:, :, 0],
        )
        _check_pair(pair, image, label)
        return pair

    def draw(self, pair: Pair) -> Window:
        """A draw for the mirror, then two for the crop, where there are any."""
        height, width = pair.label.shape
        mirror = self._mirror and self._raw() % 2 == 1
        crop_height, crop_width = self._crop
        if not crop_height:
            return Window(0, 0, mirror)
        return Window(self._raw() % (height - crop_height + 1), self._raw() % (width - crop_width + 1), mirror)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the tops; DataError for an image that is smaller than the crop."""
        if height < self._crop[0] or width < self._crop[1]:
            raise DataError(f"is {height}x{width} (height x width); expected at least the crop of {_times(self._crop)}")
        return self._crop if self._crop[0] else (height, width)

    def apply(self, pair: Pair, window: Window) -> tuple[Values, Values]:
        """Data (C, H, W) and labels (1, H, W)."""
        size = self.output_size(*pair.label.shape)
        image, label = (part[:, ::-1] if window.mirror else part for part in pair)
        place = np.s_[window.top : window.top + size[0], window.left : window.left + size[1]]
        self.plain.output_shape(image.shape[2], *size)
        values = transform_image(
            image[place].transpose(2, 0, 1),
            CropWindow(0, 0, False),
            size=size,
            mean=self.plain.mean_for(image.shape[2]),
            scale=self.plain.scale,
        )
        return values, label[place][None].astype(np.float32)

    def _raw(self) -> int:
        assert self.plain.random is not None
        return self.plain.random.raw()


class ScaledTransform:
    """DeepLab's ImageSegData: resized by one of ``scale_factors``, padded to the crop, cropped, mirrored.

    The crop is random in TRAIN and central in TEST.  Room below and to the right of a small image has the mean value
    and the ``ignore_label``.
    """

    def __init__(
        self,
        image_param: caffe_pb2.ImageDataParameter,
        param: caffe_pb2.TransformationParameter,
        plain: Transformer,
    ) -> None:
        self.plain = plain
        self.crop = (param.crop_size, param.crop_size) if param.crop_size else (param.crop_height, param.crop_width)
        self._factors = list(param.scale_factors)
        self._size = image_param.new_height, image_param.new_width
        self._color, self._ignore_label = image_param.is_color, image_param.ignore_label
        self.label_type: str = image_param.LabelType.Name(image_param.label_type)

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return self.plain.mirror or bool(self._factors) or (self.plain.phase == "TRAIN" and self.crop[0] > 0)

    def start_random(self) -> None:
        """Seed the stream by a draw of the process-wide one, where it is used, as Caffe's transformer does."""
        self.plain.random = CaffeGenerator(generator().raw()) if self.is_random else None

    def read(self, root: str, image: str, label: str) -> Pair:
        """The files' contents, or one label for all pixels (IMAGE: that of the list; NONE: ``ignore_label``)."""
        pixels = read_pixels(root + image, *self._size, color=self._color)
        if self.label_type == "PIXEL":
            # DeepLab resizes labels as it does images, with interpolation.
            pair = Pair(pixels, read_pixels(root + label, *self._size, color=False)[:, :, 0])
            _check_pair(pair, image, label)
            return pair
        value = self._ignore_label if self.label_type == "NONE" else _leading_number(label)
        return Pair(pixels, np.full(pixels.shape[:2], min(255, max(0, value)), np.uint8))

    def draw(self, pair: Pair) -> Window:
        """A draw for the mirror, one for the factor, two for the crop in TRAIN, where there are any."""
        mirror = self.plain.mirror and self._raw() % 2 == 1
        factor = self._factors[self._raw() % len(self._factors)] if self._factors else 1.0
        if not self.crop[0]:
            return Window(0, 0, mirror, factor)
        height, width = _scaled_size(pair.label.shape, factor)
        spare = max(height, self.crop[0]) - self.crop[0], max(width, self.crop[1]) - self.crop[1]
        if self.plain.phase == "TRAIN":
            return Window(self._raw() % (spare[0] + 1), self._raw() % (spare[1] + 1), mirror, factor)
        return Window(spare[0] // 2, spare[1] // 2, mirror, factor)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the tops."""
        return self.crop if self.crop[0] else (height, width)

    def apply(self, pair: Pair, window: Window) -> tuple[Values, Values]:
        """Data (C, H, W) and labels (1, H, W)."""
        image, label = pair
        if window.factor != 1:
            height, width = _scaled_size(pair.label.shape, window.factor)
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            image = np.asarray(resized, np.uint8).reshape(height, width, -1)
            label = np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        size = self.output_size(*label.shape)
        channels, mean = image.shape[2], self.plain.mean_for(image.shape[2])
        short = max(0, size[0] - label.shape[0]), max(0, size[1] - label.shape[1])
        values = image.astype(np.float32)
        if any(short):
            if mean is None:
                raise DataError(f"is smaller than the crop of {_times(size)}; mean_value is needed to fill the room")
            large = np.empty((label.shape[0] + short[0], label.shape[1] + short[1], channels), np.float32)
            large[:] = mean
            large[: label.shape[0], : label.shape[1]] = values
            values = large
            edge = min(255, max(0, self._ignore_label))
            label = np.pad(label, ((0, short[0]), (0, short[1])), constant_values=edge)
        place = np.s_[window.top : window.top + size[0], window.left : window.left + size[1]]
        values, label = values[place], label[place]
        values = (values if mean is None else values - mean) * self.plain.scale
        if window.mirror:
            values, label = values[:, ::-1], label[:, ::-1]
        return np.ascontiguousarray(values.transpose(2, 0, 1)), label[None].astype(np.float32)

    def _raw(self) -> int:
        assert self.plain.random is not None
        return self.plain.random.raw()


def _check_pair(pair: Pair, image: str, label: str) -> None:
    if pair.image.shape[:2] != pair.label.shape:
        raise DataError(
            f"{image} is {_times(pair.image.shape[:2])} and {label} {_times(pair.label.shape)} (height x width); "
            "expected the same size"
        )


def _scaled_size(size: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Height and width times ``factor``, cut to whole numbers, at least 1."""
    height, width = (max(1, int(np.float32(side) * np.float32(factor))) for side in size)
    return height, width


def _leading_number(text: str) -> int:
    """The whole number at the start of ``text``, else 0, as C's atoi."""
    digits = text[:1] if text[:1] in "+-" else ""
    for character in text[len(digits) :]:
        if not character.isdecimal():
            break
        digits += character
    return int(digits) if digits.strip("+-") else 0


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
