"""Index files: a subset of a database with its own order and labels."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import SubsetReader, parse_datum, write_index_file
from caffe_compat.data.index_file import is_index_file
from caffe_compat.errors import DataError


@pytest.fixture
def subset(database: Path, tmp_path: Path) -> Path:
    write_index_file(tmp_path / "subset", database, np.array([8, 1, 5]), np.array([2, -1, 0]))
    return tmp_path / "subset"


def test_the_bytes_of_the_file(subset: Path) -> None:
    """As docs/data.md says: the path is filled with zeros to 8 bytes."""
    expected = b"CCSUBSET" + struct.pack("<IIQQ", 1, 2, 3, 10) + b"db".ljust(8, b"\0")
    expected += struct.pack("<3I", 8, 1, 5) + struct.pack("<3i", 2, -1, 0)
    assert subset.read_bytes() == expected


def test_which_files_are_index_files(subset: Path, database: Path) -> None:
    assert is_index_file(subset)
    assert not is_index_file(database / "data.mdb")
    assert not is_index_file(database)
    assert not is_index_file(subset.with_name("absent"))


def test_records_in_the_subsets_order(subset: Path) -> None:
    reader = SubsetReader(subset)
    assert [(parse_datum(record.value).label, record.label) for record in reader] == [(8, 2), (1, -1), (5, 0)]
    assert len(reader) == 3
    assert reader.record(1).key == b"00000001_image1"
    with pytest.raises(IndexError, match="record 3 of 3"):
        reader.record(3)
    assert [record.label for record in pickle.loads(pickle.dumps(reader))] == [2, -1, 0]


def test_a_cursor_goes_round(subset: Path) -> None:
    cursor = SubsetReader(subset).cursor()
    assert [record.label for record in cursor.take(4)] == [2, -1, 0, 2]
    cursor.skip(4)
    assert cursor.position() == "2"
    other = SubsetReader(subset).cursor()
    other.seek("2")
    assert other.next().label == cursor.next().label == 0
    with pytest.raises(DataError, match="has 3 records; the saved state stood at 3"):
        other.seek("3")


def test_refused_when_written(database: Path, tmp_path: Path) -> None:
    for records, labels, message in (
        ([3, 10], [0, 0], r"records 3 to 10; .* has 0 to 9"),
        ([-1], [0], r"records -1 to -1"),
        ([1, 2], [0], "2 records and 1 labels"),
        ([], [], "0 records and 0 labels; expected as many, at least one"),
    ):
        with pytest.raises(DataError, match=message):
            write_index_file(tmp_path / "subset", database, np.array(records), np.array(labels))
    assert not (tmp_path / "subset").exists()


def test_refused_when_read(subset: Path, tmp_path: Path) -> None:
    whole = subset.read_bytes()
    for name, data, message in (
        ("short", whole[:-1], "75 bytes|bytes that are no whole index file"),
        ("version", whole[:8] + b"\2" + whole[9:], "no whole index file"),
        ("header", whole[:10], "cannot be read as a subset's index file"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            SubsetReader(tmp_path / name)


def test_the_database_is_found_beside_the_file(subset: Path, database: Path, tmp_path: Path) -> None:
    """The path inside is relative to the file's folder: both can move together."""
    (tmp_path / "moved").mkdir()
    os.rename(subset, tmp_path / "moved" / "subset")
    with pytest.raises(DataError, match="db"):
        SubsetReader(tmp_path / "moved" / "subset")
    os.rename(database, tmp_path / "moved" / "db")
    assert len(SubsetReader(tmp_path / "moved" / "subset")) == 3


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


@pytest.mark.parametrize(
    ("place", "number", "message"),
    [
        (12, 1 << 31, r"cannot be read as a subset's index file: .*|[0-9]+ bytes that are no whole index file"),
        (32, 0x0000_0062, r"cannot be read as a subset's index file: embedded null byte"),
        (32, 0x0000_FF62, r"cannot be read as a subset's index file: 'utf-8' codec"),
        (40, 10, r"its record 0 is number 10 of .*db, which has 0 to 9; damaged, make it again"),
    ],
)
def test_damaged_fields(subset: Path, place: int, number: int, message: str) -> None:
    data = bytearray(subset.read_bytes())
    struct.pack_into("<I", data, place, number)
    subset.write_bytes(data)
    with pytest.raises(DataError, match=message):
        SubsetReader(subset).record(0)
