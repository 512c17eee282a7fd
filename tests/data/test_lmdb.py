import gc
import os
import pickle
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffe_compat.data.database import open_database
from caffe_compat.data.database_mean import compute_mean
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.dataset import LMDBDataset
from caffe_compat.data.datum import encode_datum, parse_datum
from caffe_compat.data.lmdb import LMDBReader, LMDBWriter, write_lmdb
from caffe_compat.data.lmdb_pages import read_meta
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from tests.data.conftest import COUNT, append


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
    assert parse_datum(second.record(3).value).label == 3, "it opens again"


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
    assert reader.behind() == 0
    file = database / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096)
    with pytest.raises(DataError, match=r"data\.mdb: cut short: \d+ of \d+ bytes"):
        reader.behind()
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


def test_py_lmdb_may_have_the_file_open_too(database: Path) -> None:
    source, dataset = DatabaseSource(LMDBReader(database), Transformer(), 2), LMDBDataset(database)
    first, _ = dataset[3]
    with lmdb.open(str(database), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert [key for key, _ in transaction.cursor()] == list(LMDBReader(database).keys())
        (image, _), (batch, _) = dataset[3], source.load()
        assert image.equal(first)
        assert image.shape == batch.shape[1:]


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


def test_reading_goes_on_where_others_append(database: Path) -> None:
    reader = LMDBReader(database)
    cursor = reader.cursor()
    first = [bytes(record.key) for record in cursor.take(3)]
    append(database, b"zz")
    assert (reader.behind(), reader.overtaken(), len(reader)) == (1, False, COUNT)
    with pytest.warns(
        UserWarning, match=rf"another process has written to it: {COUNT} records before, {COUNT + 1} now"
    ):
        cursor.keep_up()
    rest = cursor.take(COUNT + 1)
    assert [bytes(record.key) for record in rest[-3:]] == first
    assert bytes(rest[-4].value) == b"new zz"
    append(database, b"zz", commits=2)
    assert reader.overtaken()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        cursor.keep_up()
    assert (reader.behind(), len(reader), reader.record(COUNT).key) == (0, COUNT + 1, b"zz")


def test_readers_that_share_a_file_each_keep_up(database: Path) -> None:
    first, second = LMDBReader(database), LMDBReader(database)
    kept = second.record(0).value
    before = bytes(kept)
    first.cursor()
    append(database, b"zz")
    with pytest.warns(UserWarning, match="another process has written to it"):
        assert first.keep_up()
    assert (first.record(COUNT).key, len(second), bytes(kept)) == (b"zz", COUNT, before)
    with pytest.warns(UserWarning, match="another process has written to it"):
        assert second.keep_up()
    assert second.record(COUNT).key == b"zz"


def test_two_cursors_of_a_reader_both_keep_up(database: Path) -> None:
    reader = LMDBReader(database)
    first, second = reader.cursor(), reader.cursor()
    first.skip(COUNT - 1)
    second.skip(COUNT - 1)
    append(database, b"zz")
    with pytest.warns(UserWarning, match="another process has written to it"):
        first.keep_up()
    second.keep_up()
    assert [record.key for cursor in (first, second) for record in cursor.take(2)[1:]] == [b"zz", b"zz"]


def test_a_walk_through_all_that_a_writer_may_have_torn_ends_in_one_line(database: Path) -> None:
    walks = (iter(LMDBReader(database)), LMDBReader(database).keys())
    for walk in walks:
        next(walk)
    append(database, b"zz", commits=2)
    for walk in walks:
        with pytest.raises(DataError, match=f"^{database}: is being written by another process; read it when that has"):
            list(walk)


def test_written_to_between_a_look_and_the_first_record(database: Path) -> None:
    reader = LMDBReader(database)
    append(database, b"zz")
    assert [record.key for record in reader][-1] == b"zz"
    assert len(reader) == COUNT + 1


def test_a_database_that_is_removed_or_replaced_stays_open(database: Path) -> None:
    reader = LMDBReader(database)
    cursor = reader.cursor()
    os.rename(database, database.with_name("old"))
    cursor.keep_up()
    write_lmdb(database, [("other", b"")])
    cursor.keep_up()
    assert len(cursor.take(2 * COUNT)) == 2 * COUNT
    shutil.rmtree(database.with_name("old"))
    assert labels_of(reader) == list(range(COUNT))


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
