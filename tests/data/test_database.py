from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import LMDBReader, SubsetReader, write_index_file
from caffe_compat.data.database import find_backend, open_database
from caffe_compat.data.leveldb import LevelDBReader, LevelDBWriter
from caffe_compat.errors import DataError


def test_an_lmdb_by_its_folder_or_its_file(database: Path) -> None:
    assert find_backend(database) == "LMDB"
    assert isinstance(open_database(database), LMDBReader)


def test_a_subset_by_its_first_bytes(database: Path, tmp_path: Path) -> None:
    write_index_file(tmp_path / "half", database, np.array([1, 0]), np.array([5, 6]))
    assert find_backend(tmp_path / "half") == "SUBSET"
    reader = open_database(tmp_path / "half")
    assert isinstance(reader, SubsetReader)
    assert [record.label for record in reader] == [5, 6]


def test_a_leveldb_by_its_files(tmp_path: Path) -> None:
    pytest.importorskip("plyvel")
    with LevelDBWriter(tmp_path / "db") as writer:
        writer.put(b"key", b"value")
    assert find_backend(str(tmp_path / "db")) == "LEVELDB"
    reader = open_database(tmp_path / "db")
    assert isinstance(reader, LevelDBReader)
    reader.close()


def test_nothing_and_something_else_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such database; make it with convert_imageset"):
        find_backend(tmp_path / "absent")
    with pytest.raises(DataError, match=r"neither LMDB \(data.mdb\) nor LevelDB \(CURRENT\)"):
        open_database(tmp_path)
