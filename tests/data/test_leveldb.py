"""LevelDB folders; plyvel comes with `pip install 'caffe-compat[leveldb]'`."""

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat.data.leveldb import LevelDBReader, LevelDBWriter, is_leveldb
from caffe_compat.errors import DataError

pytest.importorskip("plyvel")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with LevelDBWriter(tmp_path / "db") as writer:
        for number in (2, 0, 1):
            writer.put(f"{number}".encode(), f"value {number}".encode())
        writer.put(b"1", b"another")
    return tmp_path / "db"


def test_records_in_the_order_of_their_keys(folder: Path) -> None:
    assert is_leveldb(folder)
    reader = LevelDBReader(folder)
    assert [(record.key, bytes(record.value)) for record in reader] == [
        (b"0", b"value 0"),
        (b"1", b"another"),
        (b"2", b"value 2"),
    ]
    assert len(reader) == 3
    assert reader.record(2).key == b"2"
    assert reader.get(b"0").value == b"value 0"
    with pytest.raises(DataError, match=r"no record with key b'9'"):
        reader.get(b"9")
    reader.close()


def test_a_cursor_goes_round_and_back(folder: Path) -> None:
    reader = LevelDBReader(folder)
    cursor = reader.cursor()
    assert [record.key for record in cursor.take(4)] == [b"0", b"1", b"2", b"0"]
    position = cursor.position()
    cursor.skip(1)
    assert cursor.next().key == b"2"
    cursor.seek(position)
    assert cursor.next().key == b"1"
    with pytest.raises(DataError, match="where the saved state stood"):
        cursor.seek(b"11".hex())
    reader.close()


def test_readers_of_one_process_share_the_lock(folder: Path) -> None:
    first, second = LevelDBReader(folder), LevelDBReader(folder)
    third = pickle.loads(pickle.dumps(first))
    first.close()
    assert len(second) == len(third) == 3
    second.close()
    third.close()
    LevelDBReader(folder).close()  # the lock is free again


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), LevelDBWriter(tmp_path / "db") as writer:
        writer.put(b"a", b"b")
        raise KeyError
    assert not (tmp_path / "db").exists()


def test_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="db: already exists"):
        LevelDBWriter(folder)
    with LevelDBWriter(tmp_path / "empty"):
        pass
    with pytest.raises(DataError, match="empty: the LevelDB has no records"):
        LevelDBReader(tmp_path / "empty")
    assert not is_leveldb(tmp_path)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9])
def test_damaged_files(tmp_path: Path, part: float) -> None:
    """A byte of a value at the start, in the middle, in the last block."""
    folder = tmp_path / "db"
    with LevelDBWriter(folder) as writer:
        for number in range(100):
            writer.put(f"{number:08d}".encode(), np.random.default_rng(number).bytes(500))
    LevelDBReader(folder).close()  # what was in the log is in a table now
    (table,) = folder.glob("*.ldb")
    data = bytearray(table.read_bytes())
    data[int(part * len(data))] ^= 0xFF
    table.write_bytes(data)
    with pytest.raises(DataError, match=f"^{folder}: cannot be read as LevelDB: .*checksum mismatch.*; damaged"):
        list(LevelDBReader(folder))


def test_numbers_outside(folder: Path) -> None:
    reader = LevelDBReader(folder)
    for number in (-1, 3):
        with pytest.raises(IndexError, match=f"db: record {number} of 3"):
            reader.record(number)
    reader.close()


def test_a_reader_that_is_dropped_while_another_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage collection may come at any moment, also while the lock of the open databases is held."""
    import plyvel

    with LevelDBWriter(folder.with_name("other")) as writer:
        writer.put(b"0", b"value")
    other = LevelDBReader(folder.with_name("other"))
    other.record(0)
    real = plyvel.DB

    def open_as_garbage_is_collected(*arguments: Any, **options: Any) -> Any:
        other.close()
        return real(*arguments, **options)

    monkeypatch.setattr("plyvel.DB", open_as_garbage_is_collected)
    reader = LevelDBReader(folder)
    assert len(list(reader)) == 3
    reader.close()
