"""Opens whatever database lies at a path: LMDB, LevelDB, or a subset's index file."""

import os
from pathlib import Path

from caffe_compat.data.index_file import SubsetReader, is_index_file
from caffe_compat.data.leveldb import LevelDBReader, is_leveldb
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.lmdb_pages import data_file
from caffe_compat.errors import DataError, seen_from

Database = LMDBReader | LevelDBReader | SubsetReader
_READERS: dict[str, type[LMDBReader] | type[LevelDBReader] | type[SubsetReader]] = {
    "LMDB": LMDBReader,
    "LEVELDB": LevelDBReader,
    "SUBSET": SubsetReader,
}


def find_backend(path: str | os.PathLike[str]) -> str:
    """``"LMDB"``, ``"LEVELDB"`` or ``"SUBSET"``, by what lies at ``path``.

    Raises DataError when there is nothing, or something else.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise DataError(f"{path}: no such database; make it with convert_imageset{seen_from(path)}")
    if is_leveldb(path):
        return "LEVELDB"
    if is_index_file(path):
        return "SUBSET"
    if data_file(path).is_file():
        return "LMDB"
    raise DataError(f"{path}: neither LMDB (data.mdb) nor LevelDB (CURRENT); make it with convert_imageset")


def open_database(path: str | os.PathLike[str]) -> Database:
    """A reader for the database at ``path``, opened in O(1); DataError when that fails."""
    return _READERS[find_backend(path)](path)
