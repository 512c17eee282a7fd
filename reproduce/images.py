"""Images as the writer of databases takes them: in memory, or in files."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from caffe_compat.data.datum import decode_image, encode_datum, parse_datum
from caffe_compat.errors import DataError

PARTS = ("train", "valid")


class Images(Protocol):
    """Labelled images in two parts, ``train`` and ``valid``; labels count from 0."""

    classes: list[str]  # names, by label
    natural: tuple[int, ...]  # labels of half A of the split natman; () when they are not known

    @property
    def size(self) -> int:
        """Height and width in pixels (the smaller of both)."""

    def labels(self, part: str) -> np.ndarray:
        """Label of each image (int64)."""

    def names(self, part: str) -> Sequence[str]:
        """Name of each image, as in a list file."""

    def record(self, part: str, index: int, label: int) -> bytes:
        """Image ``index`` as a serialized Datum that carries ``label``."""


@dataclass
class ArrayImages:
    """Images held in memory: ``pixels[part]`` is (N, C, H, W) uint8, BGR, ``part_labels[part]`` is (N,)."""

    classes: list[str]
    pixels: dict[str, np.ndarray]
    part_labels: dict[str, np.ndarray]
    natural: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """See Images."""
        return int(self.pixels["train"].shape[-1])

    def labels(self, part: str) -> np.ndarray:
        """See Images."""
        return self.part_labels[part]

    def names(self, part: str) -> list[str]:
        """``class/part_number``."""
        return [f"{self.classes[label]}/{part}_{i:05d}" for i, label in enumerate(self.part_labels[part])]

    def record(self, part: str, index: int, label: int) -> bytes:
        """See Images."""
        return encode_datum(self.pixels[part][index], label)


@dataclass
class FileImages:
    """Images in files below ``root``, each decoded as it is asked for; all have the size and channels of the first."""

    root: Path
    classes: list[str]
    files: dict[str, list[str]]  # part -> names relative to root
    part_labels: dict[str, np.ndarray]
    natural: tuple[int, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)  # part -> folder that its names are relative to
    resize_px: int = 0  # 0: as they are

    @property
    def size(self) -> int:
        """See Images."""
        return min(self._shape[:2])

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Height and width of all images, and channels where they have colours."""
        first = _read_image(self._file("train", 0), cv2.IMREAD_ANYCOLOR)
        return (self.resize_px, self.resize_px, *first.shape[2:]) if self.resize_px else first.shape

    def labels(self, part: str) -> np.ndarray:
        """See Images."""
        return self.part_labels[part]

    def names(self, part: str) -> list[str]:
        """Relative paths."""
        return self.files[part]

    def record(self, part: str, index: int, label: int) -> bytes:
        """See Images; DataError when the file is no image, or one of another size, or with colours among grey ones."""
        file = self._file(part, index)
        grey = len(self._shape) == 2
        image = _read_image(file, cv2.IMREAD_ANYCOLOR if grey else cv2.IMREAD_COLOR)
        if grey and image.ndim > 2:
            raise DataError(f"{file}: has colours, and the first image has none; make all of them grey, or none")
        if self.resize_px:
            image = resized(image, self.resize_px)
        elif image.shape != self._shape:
            height, width = image.shape[:2]
            raise DataError(
                f"{file}: is {width} x {height} pixels, and the first image {self._shape[1]} x {self._shape[0]}; bring "
                "all to one size, by --resize 32 for instance"
            )
        return encode_datum(np.ascontiguousarray(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)), label)

    def _file(self, part: str, index: int) -> Path:
        return self.root / self.folders.get(part, "") / self.files[part][index]


@dataclass
class ResizedImages:
    """Images of any kind, brought to ``size`` x ``size`` pixels."""

    images: Images
    size: int

    def __post_init__(self) -> None:
        self.classes, self.natural = self.images.classes, self.images.natural

    def labels(self, part: str) -> np.ndarray:
        """See Images."""
        return self.images.labels(part)

    def names(self, part: str) -> Sequence[str]:
        """See Images."""
        return self.images.names(part)

    def record(self, part: str, index: int, label: int) -> bytes:
        """See Images."""
        image = resized(_pixels(self.images.record(part, index, label)).transpose(1, 2, 0), self.size)
        return encode_datum(np.ascontiguousarray(image.reshape(self.size, self.size, -1).transpose(2, 0, 1)), label)


def resized(image: np.ndarray, size_px: int) -> np.ndarray:
    """An image (H, W) or (H, W, C), both sides brought to ``size_px`` by OpenCV's bilinear interpolation."""
    return cv2.resize(image, (size_px, size_px))


def at_size(images: Images, size_px: int) -> Images:
    """The same images brought to ``size_px``; 0: as they are."""
    if not size_px:
        return images
    return replace(images, resize_px=size_px) if isinstance(images, FileImages) else ResizedImages(images, size_px)


def shape_of(images: Images) -> tuple[int, int, int]:
    """(channels, height, width) of the first image for training; DataError when it cannot be read."""
    channels, height, width = _pixels(images.record("train", 0, 0)).shape
    return channels, height, width


def _pixels(record: bytes) -> np.ndarray:
    """The pixels (C, H, W), BGR, of a serialized Datum."""
    datum = parse_datum(record)
    if not datum.encoded:
        return datum.array()
    image = decode_image(datum.data)
    return image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)


def _read_image(file: Path, flags: int) -> np.ndarray:
    image = cv2.imread(str(file), flags)
    if image is None:
        raise DataError(f"{file}: cannot be read as an image; repair or remove it")
    return image


def first_of_each_class(labels: np.ndarray, most: int) -> np.ndarray:
    """Indices, ascending, of the first ``most`` images of each class."""
    chosen = [np.flatnonzero(labels == label)[:most] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))
