"""The pages of an LMDB as the LMDB library reads them; whatever is damaged in them ends in one line."""

import random
import struct
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest

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
