"""Images as the writer of databases takes them: in memory, or in files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from caffe_compat.data.datum import encode_datum
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
    """Images in files below ``root``; each is decoded and resized to ``size`` as it is asked for."""

    root: Path
    classes: list[str]
    files: dict[str, list[str]]  # part -> names relative to root
    part_labels: dict[str, np.ndarray]
    size: int
    natural: tuple[int, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)  # part -> folder that its names are relative to

    def labels(self, part: str) -> np.ndarray:
        """See Images."""
        return self.part_labels[part]

    def names(self, part: str) -> list[str]:
        """Relative paths."""
        return self.files[part]

    def record(self, part: str, index: int, label: int) -> bytes:
        """See Images; DataError when the file is no image."""
        file = self.root / self.folders.get(part, "") / self.files[part][index]
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{file}: cannot be read as an image; repair or remove it")
        image = cv2.resize(image, (self.size, self.size))
        return encode_datum(np.ascontiguousarray(image.transpose(2, 0, 1)), label)


def first_of_each_class(labels: np.ndarray, most: int) -> np.ndarray:
    """Indices, ascending, of the first ``most`` images of each class."""
    chosen = [np.flatnonzero(labels == label)[:most] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))
