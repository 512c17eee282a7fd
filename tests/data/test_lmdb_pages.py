"""The pages of an LMDB as the LMDB library reads them; whatever is damaged in them ends in one line."""

import random
import struct
from contextlib import suppress
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffe_compat.data.datum import encode_datum
from caffe_compat.data.lmdb import LMDBReader, write_lmdb
from caffe_compat.data.lmdb_pages import Tree, TreeCursor, read_meta
from caffe_compat.errors import DataError

PAGE = 4096


def tree_of(database: Path) -> Tree:
    return Tree(database / "data.mdb", database)


def records_of(tree: Tree) -> list[tuple[bytes, bytes]]:
    cursor, found = TreeCursor(tree), []
    while not cursor.at_end:
        key, value, _ = cursor.record()
        found.append((key, bytes(value)))
        cursor.next()
    return found


@pytest.mark.parametrize(
    ("count", "longest_key", "longest_value"), [(1, 9, 9), (40, 500, 20), (3000, 20, 10), (300, 30, 9000)]
)
def test_as_the_lmdb_library_reads_it(tmp_path: Path, count: int, longest_key: int, longest_value: int) -> None:
    """Trees of one to three levels, values within pages and in pages of their own, keys of any bytes."""
    dice = random.Random(count)
    keys = [dice.randbytes(dice.randint(1, longest_key)) for _ in range(count)]
    write_lmdb(tmp_path / "db", ((key, dice.randbytes(dice.randint(0, longest_value))) for key in keys))
    with lmdb.open(str(tmp_path / "db"), readonly=True, lock=False) as environment, environment.begin() as transaction:
        expected = list(transaction.cursor())
        tree = tree_of(tmp_path / "db")
        assert records_of(tree) == expected
        assert [tuple(map(bytes, tree.by_number(number)[:2])) for number in range(len(expected))] == expected
        cursor, theirs = TreeCursor(tree), transaction.cursor()
        for key in [*keys, b"", b"\xff" * 511, *(dice.randbytes(3) for _ in range(100))]:
            cursor.seek(key)
            found = bool(key and theirs.set_range(key)) or (not key and theirs.first())
            assert cursor.at_end is not found
            if found:
                assert cursor.key() == theirs.key()
                assert bytes(cursor.record()[1]) == theirs.value()


def node_of(data: bytearray, key: bytes) -> int:
    """Where the node of a leaf with ``key`` starts; keys occur once."""
    (place,) = (place for place in range(2 * PAGE, len(data)) if data.startswith(key, place))
    return place - 8


@pytest.mark.parametrize("length", [30, 9000])
@pytest.mark.parametrize("false", ["page", "file", "most"])
def test_a_value_with_a_false_size(tmp_path: Path, length: int, false: str) -> None:
    """Reading it would end behind the file: SIGBUS, in LMDB itself."""
    write_lmdb(tmp_path / "db", ((f"key {i}", bytes([i]) * length) for i in range(3)))
    file = tmp_path / "db" / "data.mdb"
    data = bytearray(file.read_bytes())
    size = {"page": length + 3 * PAGE, "file": len(data) - 1, "most": 0xFFFFFFFF}[false]
    struct.pack_into("=I", data, node_of(data, b"key 2"), size)
    file.write_bytes(data)
    reader = LMDBReader(tmp_path / "db")
    line = f"{tmp_path}/db: cannot be read as LMDB: record b'key 2' of {size} bytes does not lie in the file; damaged"
    for look in (
        lambda: list(reader),
        lambda: reader.record(2),
        lambda: reader.get(b"key 2"),
        lambda: reader.cursor().take(3),
    ):
        with pytest.raises(DataError, match=f"^{line}"):
            look()
    assert bytes(reader.record(1).value) == bytes([1]) * length
    assert list(reader.keys()) == [b"key 0", b"key 1", b"key 2"]


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        ([0, 1, 1, 2, 4], "abcde"),
        ([0, 0, 2, 3], "abcd"),
        ([0, 1, 3, 3], "abcd"),
        ([0, 1, 2, 3], "dcba"),
    ],
)
def test_numbers_in_keys_do_not_fool(tmp_path: Path, numbers: list[int], names: str) -> None:
    keys = [f"{number:08d}_{name}".encode() for number, name in zip(numbers, names, strict=True)]
    write_lmdb(tmp_path / "db", ((key, key) for key in keys))
    reader = LMDBReader(tmp_path / "db")
    for number in (2, 0, 3, 1):
        assert reader.record(number).key == bytes(reader.record(number).value) == keys[number]


def damaged_nodes(data: bytearray, root: int, kind: str) -> None:
    """Change the root, a branch, so that its pages are no tree, or its first leaf's first node."""
    (place,) = struct.unpack_from("=H", data, root * PAGE + 16)
    (leaf,) = struct.unpack_from("=I", data, root * PAGE + place)
    if kind == "loop":
        struct.pack_into("=I", data, root * PAGE + place, root)
    elif kind == "several values":
        (first,) = struct.unpack_from("=H", data, leaf * PAGE + 16)
        data[leaf * PAGE + first + 4] = 4  # LMDB follows a null pointer here
    elif kind == "no nodes":
        struct.pack_into("=H", data, leaf * PAGE + 12, 16)
    elif kind == "place":
        struct.pack_into("=H", data, leaf * PAGE + 16, 0xFFFF)
    elif kind == "key":
        (first,) = struct.unpack_from("=H", data, leaf * PAGE + 16)
        struct.pack_into("=H", data, leaf * PAGE + first + 6, 0xFFFF)
    elif kind == "number":
        data[leaf * PAGE] ^= 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("loop", "its pages are no tree"),
        ("several values", r"record b'00000000' of 10 bytes does not lie in the file"),
        ("no nodes", r"page \d+ is empty"),
        ("place", r"a node of page \d+ leaves it"),
        ("key", r"(record b'00000000.*' of 10 bytes does not lie in the file|a node of page \d+ leaves it)"),
        ("number", r"page \d+ holds no nodes"),
    ],
)
def test_damaged_trees(tmp_path: Path, kind: str, message: str) -> None:
    write_lmdb(tmp_path / "db", ((f"{i:08d}", bytes(10)) for i in range(300)))
    file = tmp_path / "db" / "data.mdb"
    data = bytearray(file.read_bytes())
    damaged_nodes(data, read_meta(file).root, kind)
    file.write_bytes(data)
    reader = LMDBReader(tmp_path / "db")
    for look in (lambda: list(reader), lambda: reader.cursor().take(1), lambda: reader.record(0)):
        with pytest.raises(DataError, match=f"^{tmp_path}/db: cannot be read as LMDB: {message}; damaged"):
            look()


def test_random_damage(tmp_path: Path) -> None:
    """Nothing but a DataError, in any way of reading; the LMDB library would end the process."""
    dice = random.Random(0)
    write_lmdb(tmp_path / "db", ((f"{i:08d}", bytes([i % 256]) * dice.choice([5, 9, 5000])) for i in range(200)))
    file = tmp_path / "db" / "data.mdb"
    good = file.read_bytes()
    pages = range(len(good) // PAGE)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(dice.randint(1, 3)):
            place = dice.choice(pages) * PAGE + dice.randrange(0, dice.choice([64, PAGE]), 2)
            struct.pack_into("=H", data, place, dice.choice([0, 0x7FFF, 0xFFFF, dice.randrange(1 << 16)]))
        file.write_bytes(data)
        with suppress(DataError):
            reader = LMDBReader(tmp_path / "db")
            for look in (
                lambda reader: sum(sum(record.value) for record in reader),
                lambda reader: len(list(reader.keys())),
                lambda reader: sum(sum(record.value) for record in reader.cursor().take(300)),
                lambda reader: sum(sum(reader.record(number).value) for number in range(0, 200, 9)),
                lambda reader: reader.get(b"00000077"),
            ):
                with suppress(DataError):
                    look(reader)


def make(path: Path, count: int, side: int) -> Path:
    values = (encode_datum(np.full((1, side, side), i % 251, np.uint8), i % 7) for i in range(count))
    write_lmdb(path, ((f"{i:08d}_{i}", value) for i, value in enumerate(values)))
    return path / "data.mdb"


@pytest.mark.parametrize(("count", "side"), [(3, 5), (3, 80), (60, 30)])
@pytest.mark.parametrize("value", [0, 1, 7, 0x7FFF, 0xFFFF])
def test_any_wrong_number_in_a_page_is_read_or_told(tmp_path: Path, count: int, side: int, value: int) -> None:
    """Each number in the head of a page, in its places and its nodes, by all ways to a record."""
    file = make(tmp_path / "db", count, side)
    good = file.read_bytes()
    ends = 0
    for page in range(2, len(good) // PAGE):
        start = page * PAGE
        flags, lower = np.frombuffer(good, np.uint16, 2, start + 10)
        if flags not in (1, 2):
            continue
        places = np.frombuffer(good, np.uint16, (lower - 16) // 2, start + 16)
        numbers = {*range(10, int(lower), 2), *(int(place) + i for place in places[:3] for i in range(0, 24, 2))}
        for number in sorted(numbers):
            damaged = bytearray(good)
            damaged[start + number : start + number + 2] = value.to_bytes(2, "little")
            ends += read_all(file, bytes(damaged))
    assert ends > 10


def read_all(file: Path, data: bytes) -> int:
    """How many ways to read end in an error."""
    file.unlink()  # and not written over: the one before may still be open
    file.write_bytes(data)
    said = []
    for read in (
        lambda reader: list(reader),
        lambda reader: list(reader.keys()),
        lambda reader: reader.cursor().take(len(reader) + 1),
        lambda reader: [reader.record(number) for number in range(len(reader))],
        lambda reader: reader.get(b"00000002_2"),
        lambda reader: reader.cursor().seek(b"00000001_1".hex()),
    ):
        reader = LMDBReader(file)
        try:
            read(reader)
        except DataError as error:
            said.append(str(error))
        finally:
            reader.close()
    assert all(text.startswith(f"{file}: ") for text in said)
    return len(said)


FLAGS, ENTRIES = 16 + 24 + 48 + 4, 16 + 24 + 48 + 32  # of the records, in a head


@pytest.mark.parametrize(
    ("place", "value", "heads", "message"),
    [
        (FLAGS, 4, 2, r"has several values for a key \(DUPSORT\); expected one"),
        (ENTRIES, 1 << 40, 2, r"cannot be read as LMDB: its head says \d+ records in \d+ bytes; damaged, convert"),
        (16, 0, 1, "cannot be read as LMDB: its second head is damaged; copy or convert it again"),
        (16 + 24, 3 * PAGE, 1, "cannot be read as LMDB: its second head is damaged; copy or convert it again"),
        (16 + 24, 2 * PAGE, 1, "cannot be read as LMDB: its second head is damaged; copy or convert it again"),
    ],
)
def test_heads_that_cannot_be(tmp_path: Path, place: int, value: int, heads: int, message: str) -> None:
    """``heads``: both, or the second alone."""
    file = make(tmp_path / "db", 3, 5)
    data = bytearray(file.read_bytes())
    for head in range(2 - heads, 2):
        struct.pack_into("=H" if place == FLAGS else "=I" if place < FLAGS else "=Q", data, head * PAGE + place, value)
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"^{file}: {message}"):
        LMDBReader(file)
