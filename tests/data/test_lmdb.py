import gc
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from caffe_compat.data.database import open_database
from caffe_compat.data.database_mean import compute_mean
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.dataset import LMDBDataset
from caffe_compat.data.datum import encode_datum, parse_datum
from caffe_compat.data.lmdb import LMDBReader, LMDBWriter, read_meta, write_lmdb
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from tests.data.conftest import COUNT, noise_images, write_images


def labels_of(reader: LMDBReader) -> list[int]:
    return [parse_datum(record.value).label for record in reader]


def test_reads_in_key_order_and_by_number(database: Path, images: np.ndarray) -> None:
    reader = LMDBReader(database)
    assert len(reader) == COUNT
    assert labels_of(reader) == list(range(COUNT))
    for number in (7, 0, COUNT - 1):
        assert (parse_datum(reader.record(number).value).array() == images[number]).all()
    with pytest.raises(IndexError):
        reader.record(COUNT)


@pytest.mark.parametrize("names", [["b", "a", "c"], ["00000000_a", "00000000_b", "00000002_c"]])
def test_numbers_of_other_keys(tmp_path: Path, names: list[str]) -> None:
    """Keys without numbers, and numbers with a gap and a twin, are counted."""
    write_lmdb(
        tmp_path / "db", ((name, encode_datum(np.zeros((1, 1, 1), np.uint8), i)) for i, name in enumerate(names))
    )
    reader = LMDBReader(tmp_path / "db")
    assert [reader.record(i).key.decode() for i in (2, 1, 0)] == sorted(names, reverse=True)


def test_cursor_starts_again_and_returns(database: Path) -> None:
    cursor = LMDBReader(database).cursor()
    cursor.skip(COUNT - 1)
    position = cursor.position()
    assert [cursor.next().key[:8] for _ in range(2)] == [b"00000009", b"00000000"]
    cursor.seek(position)
    assert cursor.next().key[:8] == b"00000009"


def test_readers_share_a_file_and_outlive_each_other(database: Path) -> None:
    first, second = LMDBReader(database), LMDBReader(database)
    first.record(0)
    second.record(0)
    first.close()
    assert parse_datum(second.record(3).value).label == 3
    second.close()
    with lmdb.open(str(database), readonly=True, lock=False):
        pass  # py-lmdb would refuse if we still held it


def test_values_outlive_a_dropped_reader(database: Path) -> None:
    record = LMDBReader(database).record(4)
    gc.collect()
    assert parse_datum(record.value).label == 4


def test_pickled_and_forked(database: Path) -> None:
    reader = LMDBReader(database)
    reader.record(1)
    assert labels_of(pickle.loads(pickle.dumps(reader))) == list(range(COUNT))
    child = os.fork()
    if child == 0:
        os._exit(0 if labels_of(reader) == list(range(COUNT)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_survives_a_change_of_folder(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    reader = LMDBReader("db")
    monkeypatch.chdir("/")
    assert labels_of(reader) == list(range(COUNT))


ENTRIES, ROOT, LAST_PAGE = 16 + 104, 16 + 112, 16 + 120  # in a meta page


def change_heads(database: Path, place: int, change: Callable[[int], int]) -> None:
    """A number in both meta pages."""
    data = bytearray((database / "data.mdb").read_bytes())
    for page in (0, read_meta(database).page_size):
        (old,) = struct.unpack_from("=Q", data, page + place)
        struct.pack_into("=Q", data, page + place, change(old))
    (database / "data.mdb").write_bytes(data)


def test_freed_last_pages_that_were_never_written(database: Path) -> None:
    change_heads(database, LAST_PAGE, lambda page: page + 7)
    reader = LMDBReader(database)
    assert labels_of(reader) == list(range(COUNT))
    reader.check_unchanged()
    file = database / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096)
    with pytest.raises(DataError, match=r"data\.mdb: cut short: \d+ of \d+ bytes"):
        reader.check_unchanged()
    with pytest.raises(DataError, match=r"data\.mdb: cut short: \d+ of \d+ bytes"):
        LMDBReader(database)


@pytest.mark.parametrize(("place", "value"), [(ENTRIES, 1 << 50), (ENTRIES, 3), (ROOT, (1 << 64) - 1), (ROOT, 1 << 40)])
def test_a_head_that_lies_ends_in_one_line(database: Path, place: int, value: int) -> None:
    change_heads(database, place, lambda _: value)

    def mean(reader: LMDBReader) -> None:
        compute_mean(reader, threads=1)

    def batches(reader: LMDBReader) -> None:
        reader.cursor().take(4)

    for look in (labels_of, mean, lambda reader: list(reader.keys()), *([batches] if place == ROOT else [])):
        with pytest.raises(DataError, match=rf"^{database}: (damaged: has|cannot be read as LMDB)"):
            look(LMDBReader(database))
    if place == ROOT:
        with pytest.raises(DataError, match=f"^{database}: "):
            LMDBReader(database).record(2)


def test_damaged_pages_end_in_one_line(database: Path) -> None:
    """Each page but the two heads, its flags flipped."""
    data = (database / "data.mdb").read_bytes()
    for page in range(2, len(data) // 4096):
        damaged = bytearray(data)
        damaged[4096 * page + 10] ^= 0xFF
        (database / "data.mdb").write_bytes(damaged)
        reader = LMDBReader(database)
        with pytest.raises(DataError, match=f"^{database}: cannot be read as LMDB: "):
            labels_of(reader)
        reader.close()


def test_a_file_that_py_lmdb_holds(database: Path) -> None:
    with (
        lmdb.open(str(database), readonly=True, lock=False),
        pytest.raises(DataError, match=r"already open in this process.* close the lmdb\.Environment that holds it"),
    ):
        LMDBReader(database).record(0)
    source = DatabaseSource(LMDBReader(database), Transformer(), 2)
    dataset = LMDBDataset(database)
    (image, _), (batch, _) = dataset[3], source.load()
    del source, dataset
    lmdb.open(str(database), readonly=True, lock=False).close()
    assert image.shape == batch.shape[1:]


def test_a_reader_that_is_dropped_while_another_opens(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage collection may come at any moment, also while the lock of the open files is held."""
    other = LMDBReader(write_images(database.with_name("other"), noise_images()))
    other.record(0)
    real = lmdb.open

    def open_as_garbage_is_collected(*arguments: Any, **options: Any) -> lmdb.Environment:
        other.close()
        return real(*arguments, **options)

    monkeypatch.setattr("lmdb.open", open_as_garbage_is_collected)
    assert labels_of(LMDBReader(database)) == list(range(COUNT))


def test_truncated_file(database: Path) -> None:
    file = database / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096)
    with pytest.raises(DataError, match=r"data\.mdb: cut short: \d+ of \d+ bytes"):
        LMDBReader(database)
    os.truncate(file, 100)
    with pytest.raises(DataError, match=r"not an LMDB"):
        LMDBReader(database)
    os.truncate(file, 0)
    with pytest.raises(DataError, match=r"is empty"):
        LMDBReader(database)


def test_what_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such database"):
        open_database(tmp_path / "absent")
    with pytest.raises(DataError, match=r"neither LMDB"):
        open_database(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(DataError, match=r"not an LMDB"):
        open_database(tmp_path)


def test_empty_database(tmp_path: Path) -> None:
    assert write_lmdb(tmp_path / "db", []) == 0
    with pytest.raises(DataError, match=r"has no records"):
        LMDBReader(tmp_path / "db")


def test_missing_key(database: Path) -> None:
    with pytest.raises(DataError, match=r"no record with key b'x'"):
        LMDBReader(database).get(b"x")


def test_a_writer_is_noticed(database: Path) -> None:
    reader = LMDBReader(database)
    reader.record(0)
    copy = database.with_name("copy")
    shutil.copytree(database, copy)
    with lmdb.open(str(copy)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"new", b"")
    (database / "data.mdb").write_bytes((copy / "data.mdb").read_bytes())
    with pytest.raises(DataError, match=r"is being written by another process"):
        reader.check_unchanged()


def test_unfinished_database_has_another_name(tmp_path: Path) -> None:
    def records() -> Iterator[tuple[str, bytes]]:
        yield "a", b"1"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lmdb(tmp_path / "db", records())
    assert not (tmp_path / "db").exists()
    assert (tmp_path / "db.partial").is_dir()
    assert write_lmdb(tmp_path / "db", [("b", b"2")]) == 1
    assert [record.key for record in LMDBReader(tmp_path / "db")] == [b"b"]


def test_existing_database_is_kept(database: Path) -> None:
    with pytest.raises(DataError, match=r"already exists"):
        write_lmdb(database, [])
    assert len(LMDBReader(database)) == COUNT


def test_map_grows_and_key_length_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe_compat.data.lmdb._FIRST_MAP_SIZE", 1 << 16)
    assert write_lmdb(tmp_path / "db", ((f"{i:04d}", bytes(5000)) for i in range(200))) == 200
    assert read_meta(tmp_path / "db").entries == 200
    with pytest.raises(DataError, match=r"key .* has 600 bytes"), LMDBWriter(tmp_path / "other") as writer:
        writer.put(b"k" * 600, b"")
