"""Index files: a subset of a database with its own order and labels."""

import os
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import SubsetReader, parse_datum, write_index_file
from caffe_compat.errors import DataError


def test_index_file_has_its_own_order_and_labels(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "subset"
    write_index_file(path, database, np.array([8, 1, 5]), np.array([2, 0, 1]))
    assert path.stat().st_size < 100
    reader = SubsetReader(path)
    assert [(parse_datum(r.value).label, r.label) for r in reader] == [(8, 2), (1, 0), (5, 1)]
    cursor = reader.cursor()
    cursor.skip(2)
    assert [cursor.next().label for _ in range(2)] == [1, 2]
    assert cursor.position() == "1"


def test_index_file_errors(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "subset"
    with pytest.raises(DataError, match=r"records 3 to 10; .* has 0 to 9"):
        write_index_file(path, database, np.array([3, 10]), np.array([0, 0]))
    write_index_file(path, database, np.array([3, 4]), np.array([0, 0]))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=r"no whole index file"):
        SubsetReader(path)
    os.truncate(path, 10)
    with pytest.raises(DataError, match=r"cannot be read as a subset's index file"):
        SubsetReader(path)


def test_index_file_of_another_database(database: Path, tmp_path: Path) -> None:
    from tests.data.conftest import noise_images, write_images

    write_index_file(tmp_path / "subset", database, np.array([1]), np.array([0]))
    database.rename(tmp_path / "old")
    write_images(database, noise_images(4))
    with pytest.raises(DataError, match=r"made for a database of 10 records"):
        SubsetReader(tmp_path / "subset")
