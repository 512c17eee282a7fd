"""Two Caffe LMDBs of one's own, one for training and one for testing."""

from pathlib import Path

import numpy as np

from caffe_compat.data.datum import decode_image, encode_datum, encode_image, parse_datum
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError, seen_from
from reproduce.dataset import LoadedDataSet, prototxt_of_size
from reproduce.images import shape_of


class LMDBPair(LoadedDataSet):
    """See ``LMDBImages``."""

    name = "lmdb"
    usage = "lmdb:TRAIN,VAL"
    about = "Caffe LMDBs of your own"
    natural = "with 1000 classes the authors', else not known"
    prototxt = "by the size of the images"
    size_px = 32  # of most; shape() looks
    needs_path = True

    def check(self, path: str) -> None:
        """See DataSet."""
        for database in _two_paths(path):
            if not database.exists():
                raise DataError(f"{database}: no such database; make it with convert_imageset{seen_from(database)}")

    def load(self, path: str, download: bool) -> "LMDBImages":
        """From two databases whose paths are joined by a comma."""
        return LMDBImages(*_two_paths(path))

    def prototxt_folder(self, size_px: int) -> str:
        """See DataSet."""
        return prototxt_of_size(self.name, size_px)

    def shape(self, path: str) -> tuple[int, int]:
        """See DataSet."""
        channels, *sides = shape_of(LMDBImages(*_two_paths(path)))
        return channels, min(sides)


def _two_paths(path: str) -> tuple[Path, Path]:
    train, comma, valid = path.partition(",")
    if not comma:
        raise DataError(f"--data lmdb:{path}: one path; expected two, lmdb:TRAIN,VAL")
    return Path(train), Path(valid)


DATA_SET = LMDBPair()


class LMDBImages:
    """Images in two LMDBs; classes are numbered by their labels."""

    natural: tuple[int, ...] = ()

    def __init__(self, train: Path, valid: Path) -> None:
        """Raises DataError when one is missing, damaged, or lacks a class."""
        self._readers = {"train": LMDBReader(train), "valid": LMDBReader(valid)}
        self._labels = {part: _read_labels(reader) for part, reader in self._readers.items()}
        self.classes = [f"{i:03d}" for i in range(int(self._labels["train"].max()) + 1)]
        for part, reader in self._readers.items():
            missing = np.setdiff1d(np.arange(len(self.classes)), self._labels[part])
            extra = np.setdiff1d(self._labels[part], np.arange(len(self.classes)))
            if len(missing) or len(extra):
                what = f"no image has label {missing[0]}" if len(missing) else f"label {extra[0]} is not in {train}"
                raise DataError(
                    f"{reader.path}: {what}; expected labels 0 to {len(self.classes) - 1} in both databases"
                )
        self.size = self._first_size()

    def labels(self, part: str) -> np.ndarray:
        """See Images."""
        return self._labels[part]

    def names(self, part: str) -> list[str]:
        """Keys of the records."""
        return [record.key.decode(errors="replace") for record in self._readers[part]]

    def record(self, part: str, index: int, label: int) -> bytes:
        """See Images."""
        datum = parse_datum(self._readers[part].record(index).value)
        if datum.encoded:
            return encode_image(bytes(datum.data), label)
        return encode_datum(datum.array(), label)

    def _first_size(self) -> int:
        reader = self._readers["train"]
        datum = parse_datum(reader.record(0).value)
        height, width = decode_image(datum.data).shape[:2] if datum.encoded else (datum.height, datum.width)
        return int(min(height, width))


def _read_labels(reader: LMDBReader) -> np.ndarray:
    labels = np.empty(len(reader), np.int64)
    for i, record in enumerate(reader):
        try:
            labels[i] = parse_datum(record.value).label
        except DataError as error:
            raise DataError(f"{reader.path}: key {record.key!r}: {error}; convert the images again") from None
    if labels.min() < 0:
        raise DataError(f"{reader.path}: label {labels.min()}; expected labels from 0")
    return labels
