"""Two data sets as the halves A and B (``--data-a``, ``--data-b``): each has its own classes, images and mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_compat.errors import DataError
from reproduce.dataset import DataSet, LoadedDataSet, Storage, find_data_set, prototxt_of_size
from reproduce.images import Images, at_size, shape_of

if TYPE_CHECKING:
    from reproduce.options import Options


def chosen_data(options: "Options") -> tuple[DataSet, str]:
    """(data set, path) of --data, or of --data-a and --data-b.  Raises DataError for a choice that is none."""
    first, second = options.data_a, options.data_b
    if first is None and second is None:
        data_set, path = find_data_set(options.data)
        if options.resize and not data_set.resizes:
            raise DataError(f"--data {options.data}: has one size; leave --resize out")
        return data_set, path
    if first is None or second is None:
        given, missing = ("--data-b", "--data-a") if first is None else ("--data-a", "--data-b")
        raise DataError(f"{given} {first or second}: is one half; give {missing}, too, or --data for both")
    for name, said, default in (("split", options.split, "0"), ("data", options.data, "glyphs")):
        if said != default:
            raise DataError(f"--{name} {said}: with --data-a and --data-b these are the halves; leave --{name} out")
    return Pair(first, second, options.resize or 0), ""


def storage_of(options: "Options") -> Storage:
    """In what form the databases are kept; a pair resizes by itself, before the two are compared."""
    resize_px = (options.resize or 0) if options.data_a is None else 0
    return Storage(options.encode_type or "", options.separate, resize_px)


@dataclass(frozen=True)
class Pair(LoadedDataSet):
    """Two choices of data sets; the classes of the first are half A, those of the second half B."""

    first: str  # as --data-a has it
    second: str
    resize_px: int = 0

    name = "pair"
    usage = "--data-a FIRST --data-b SECOND"
    about = "two data sets of your own"
    natural = "the first / the second"
    prototxt = "by the size of the images"
    size_px = 32

    def check(self, path: str) -> None:
        """See DataSet; DataError where the two do not go together."""
        self.shape(path)

    def shape(self, path: str) -> tuple[int, int]:
        """See DataSet."""
        channels, height, width = self._shape(self.load(path, download=False))
        return channels, min(height, width)

    def prototxt_folder(self, size_px: int) -> str:
        """See DataSet."""
        return prototxt_of_size(f"a {self.first}, b {self.second}", size_px)

    def load(self, path: str, download: bool) -> "PairImages":
        """Both data sets; DataError where their images differ in size or channels."""
        images = PairImages(*(at_size(_load(choice, download), self.resize_px) for choice in (self.first, self.second)))
        self._shape(images)
        return images

    def _shape(self, images: "PairImages") -> tuple[int, int, int]:
        first, second = shape_of(images.first), shape_of(images.second)
        if first != second:
            cure = "make both grey, or both coloured" if first[0] != second[0] else "give --resize 32, or another size"
            raise DataError(
                f"--data-a {self.first} has images of {_words(first)}, --data-b {self.second} of {_words(second)}; one "
                f"network takes both: {cure}"
            )
        return first


def _words(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{width} x {height} pixels with {channels} channel{'s' if channels > 1 else ''}"


def _load(choice: str, download: bool) -> Images:
    """The images of --data-a or --data-b: as in --data, or a folder's path alone."""
    choice = f"folder:{choice}" if ":" not in choice and Path(choice).is_dir() else choice
    data_set, path = find_data_set(choice)
    if not isinstance(data_set, LoadedDataSet):
        raise DataError(f"--data-a, --data-b: {data_set.name} cannot be one of two; choose folders or LMDBs")
    data_set.check(path)
    return data_set.load(path, download)


@dataclass
class PairImages:
    """The images of both as those of one data set whose classes are the first's, then the second's."""

    first: Images
    second: Images

    def __post_init__(self) -> None:
        self.classes = [f"a/{name}" for name in self.first.classes] + [f"b/{name}" for name in self.second.classes]
        self.natural = tuple(range(len(self.first.classes)))

    @property
    def size(self) -> int:
        """See Images."""
        return self.first.size

    def labels(self, part: str) -> np.ndarray:
        """See Images."""
        return np.concatenate([self.first.labels(part), self.second.labels(part) + len(self.first.classes)])

    def names(self, part: str) -> Sequence[str]:
        """See Images; a/ or b/ in front."""
        return [f"{half}/{name}" for half, of in (("a", self.first), ("b", self.second)) for name in of.names(part)]

    def record(self, part: str, index: int, label: int) -> bytes:
        """See Images."""
        count = len(self.first.labels(part))
        if index < count:
            return self.first.record(part, index, label)
        return self.second.record(part, index - count, label)
