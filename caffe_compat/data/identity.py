"""What tells one list, file or database from another, without reading all of it: for saved positions in it."""

import hashlib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from caffe_compat.data.database import Database
from caffe_compat.data.index_file import SubsetReader
from caffe_compat.data.leveldb import LevelDBReader
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.lmdb_pages import data_file

_SAMPLE_BYTES = 1 << 16
_DIGITS = 16  # of a digest; enough by far to tell two data sets apart


def digest(parts: Iterable[bytes]) -> str:
    """A short digest of byte strings."""
    total = hashlib.sha256()
    for part in parts:
        total.update(b"%d:" % len(part) + part)
    return total.hexdigest()[:_DIGITS]


def file_identity(path: str | os.PathLike[str]) -> str:
    """Size and a digest of samples from the start, the middle and the end; of a small file all counts.

    The time does not: a copied file is the same.  A file that is not there has an identity, too.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            last = max(0, size - _SAMPLE_BYTES)
            samples = []
            for start in (0, last // 2, last):
                file.seek(start)
                samples.append(file.read(_SAMPLE_BYTES))
    except OSError:
        return "missing"
    return f"{size} bytes ({digest(samples)})"


def database_identity(database: Database) -> str:
    """Kind, count (but of a LevelDB, which would have to be counted) and a digest of samples."""
    if isinstance(database, LevelDBReader):
        ends = (islice(database.open().iterator(reverse=back), 1) for back in (False, True))
        return f"LEVELDB ({digest(bytes(part) for end in ends for record in end for part in record)})"
    samples = [file_identity(file) for file in _files(database)]
    return f"{len(database)} records ({digest(sample.encode() for sample in samples)})"


def _files(database: LMDBReader | SubsetReader) -> list[Path]:
    if isinstance(database, SubsetReader):
        return [database.path, data_file(database.database_path)]
    return [data_file(database.path)]
