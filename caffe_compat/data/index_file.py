"""A subset of a database as a small file: record numbers in the subset's order, and new labels.

Layout, little-endian: 8 bytes ``CCSUBSET``; uint32 version 1; uint32 length of the database's
path; uint64 how many records; uint64 how many the database has; the path (UTF-8, relative to the
file's folder), filled with zeros to a multiple of 8; uint32 record numbers; int32 labels.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.atomic_file import atomic_path
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.lmdb_pages import Record
from caffe_compat.errors import DataError, reading

_MAGIC = b"CCSUBSET"
_HEADER = struct.Struct("<8sIIQQ")
_VERSION = 1


def is_index_file(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a file that starts as an index file does."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def write_index_file(
    path: str | os.PathLike[str], database: str | os.PathLike[str], records: np.ndarray, labels: np.ndarray
) -> None:
    """Write the subset of LMDB ``database`` that has ``records`` (numbers) with ``labels``; atomic.

    Raises DataError when a number is not in the database.
    """
    path, entries = Path(path), len(LMDBReader(database))
    records, labels = np.asarray(records), np.asarray(labels)
    if not len(records) or len(records) != len(labels):
        raise DataError(f"{path}: {len(records)} records and {len(labels)} labels; expected as many, at least one")
    if records.min() < 0 or records.max() >= entries:
        raise DataError(f"{path}: records {records.min()} to {records.max()}; {database} has 0 to {entries - 1}")
    name = os.path.relpath(os.path.realpath(database), os.path.realpath(path.parent)).encode()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(_HEADER.pack(_MAGIC, _VERSION, len(name), len(records), entries))
        file.write(name + bytes(-len(name) % 8))
        file.write(records.astype("<u4").tobytes())
        file.write(labels.astype("<i4").tobytes())


class SubsetReader:
    """Reads the records that an index file lists, with its labels; the same methods as LMDBReader."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises DataError when the file is damaged or does not fit its database."""
        self.path = Path(path)
        with reading(self.path, "a subset's index file"):
            with open(self.path, "rb") as file:
                header = file.read(_HEADER.size)
                magic, version, name_length, count, entries = _HEADER.unpack(header)
                size = os.fstat(file.fileno()).st_size
                name = file.read(min(name_length, size)).decode()
            start = _HEADER.size + name_length + -name_length % 8
            if magic != _MAGIC or version != _VERSION or size != start + 8 * count or not count:
                raise DataError(f"{self.path}: {size} bytes that are no whole index file; make it again")
            self.records = np.memmap(self.path, "<u4", "r", start, (count,))
            self.labels = np.memmap(self.path, "<i4", "r", start + 4 * count, (count,))
            self._database = self._open(name)
        if len(self._database) != entries:
            raise DataError(
                f"{self.path}: made for a database of {entries} records, but {self._database.path} has "
                f"{len(self._database)}; make it again"
            )

    def _open(self, name: str) -> LMDBReader:
        try:
            return LMDBReader(self.path.resolve().parent / name)
        except DataError as error:
            raise DataError(f"{self.path}: its database: {error}") from error

    @property
    def database_path(self) -> Path:
        """Where the records lie."""
        return self._database.path

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        """All records once, in the subset's order."""
        return (self.record(number) for number in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def record(self, number: int) -> Record:
        """Record ``number`` of the subset."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: record {number} of {len(self)}")
        in_database = int(self.records[number])
        if in_database >= len(self._database):
            raise DataError(
                f"{self.path}: its record {number} is number {in_database} of {self._database.path}, which has 0 to "
                f"{len(self._database) - 1}; damaged, make it again"
            )
        key, value, _ = self._database.record(in_database)
        return Record(key, value, int(self.labels[number]))

    def cursor(self) -> "SubsetCursor":
        """A cursor at the first record."""
        return SubsetCursor(self)

    def overtaken(self) -> bool:
        """As ``LMDBReader.overtaken``."""
        return self._database.overtaken()

    def keep_up(self) -> bool:
        """As ``LMDBReader.keep_up``; the record numbers stay."""
        return self._database.keep_up()

    def close(self) -> None:
        """Release the database."""
        self._database.close()


class SubsetCursor:
    """Walks the subset and, after the last record, starts again."""

    def __init__(self, reader: SubsetReader) -> None:
        self._reader = reader
        self._number = 0

    def keep_up(self) -> None:
        """As ``LMDBCursor.keep_up``."""
        self._reader.keep_up()

    def go_back(self, position: str) -> None:
        """As ``LMDBCursor.go_back``."""
        self._number = int(position)

    def next(self) -> Record:
        """The record at the cursor; moves on."""
        record = self._reader.record(self._number)
        self.skip(1)
        return record

    def take(self, count: int) -> list[Record]:
        """The next ``count`` records; moves behind them."""
        return [self.next() for _ in range(count)]

    def skip(self, count: int) -> None:
        """Move ``count`` records on."""
        self._number = (self._number + count) % len(self._reader)

    def position(self) -> str:
        """Where the cursor stands, for ``seek``."""
        return str(self._number)

    def seek(self, position: str) -> None:
        """Return to a ``position``; DataError when the subset has become smaller."""
        if int(position) >= len(self._reader):
            raise DataError(
                f"{self._reader.path}: has {len(self._reader)} records; the saved state stood at {position}"
            )
        self._number = int(position)
