"""Damaged pages are told, by their number, before LMDB falls over them."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data.datum import encode_datum
from caffe_compat.data.lmdb import LMDBReader, page_check, read_meta, write_lmdb
from caffe_compat.data.lmdb_pages import LookAhead, PageCheck
from caffe_compat.errors import DataError

PAGE = 4096


def make(path: Path, count: int, side: int) -> Path:
    values = (encode_datum(np.full((1, side, side), i % 251, np.uint8), i % 7) for i in range(count))
    write_lmdb(path, ((f"{i:08d}_{i}", value) for i, value in enumerate(values)))
    return path / "data.mdb"


def check_of(file: Path) -> PageCheck:
    return page_check(file, file, read_meta(file))


@pytest.mark.parametrize(("count", "side"), [(7, 5), (7, 80), (900, 30), (900, 80)])
def test_leaves_in_order(tmp_path: Path, count: int, side: int) -> None:
    """In one leaf and in many, the values in the leaves and in pages of their own."""
    file = make(tmp_path / "db", count, side)
    pages = check_of(file)
    counts = list(pages.leaves())
    assert sum(counts) == count
    assert pages.done
    assert len(counts) == (1 if count < 10 else len(counts))
    for number in (0, count // 3, count - 1):
        leaf = int(np.searchsorted(np.cumsum(counts), number, side="right"))
        assert list(pages.leaves(b"%08d_%d" % (number, number))) == counts[leaf:]
    assert list(pages.leaves(b"\xff")) == counts[-1:]
    assert list(pages.leaves(b"\x00")) == counts


def test_a_cursor_is_led_leaf_by_leaf(tmp_path: Path) -> None:
    file = make(tmp_path / "db", 900, 30)
    pages = check_of(file)
    first, second = list(check_of(file).leaves())[:2]
    ahead = LookAhead(pages)

    def looked_at() -> int:
        return 900 - pages._left  # noqa: SLF001

    assert looked_at() == first
    ahead.move(first - 1)
    assert looked_at() == first
    ahead.move(1)
    assert looked_at() == first + second
    ahead.move(2000)
    assert pages.done


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


def test_what_is_told(tmp_path: Path) -> None:
    file = make(tmp_path / "db", 3, 80)
    data = bytearray(file.read_bytes())
    root = read_meta(file).root
    place = int.from_bytes(data[root * PAGE + 16 : root * PAGE + 18], "little")
    data[root * PAGE + place : root * PAGE + place + 4] = b"\xff\xff\xff\x7f"  # the value's size
    file.write_bytes(data)
    reader = LMDBReader(file)
    with pytest.raises(DataError) as caught:
        reader.record(0)
    assert str(caught.value) == (
        f"{file}: cannot be read as LMDB: page {root} has records behind the file's end; damaged, convert it again"
    )
