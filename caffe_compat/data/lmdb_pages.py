"""The pages of an LMDB file: its head, and the tree of its records.

They are read here, and not by the LMDB library, which believes what stands in a page: a damaged one ends there in
SIGBUS or abort().  Here nothing outside the file is touched, whatever is in it.

A page: its number 8 bytes, pad 2, flags 2, end of the nodes' places 2, ...; then the places, 2 bytes each.  A node:
size of the data 4, flags 2, size of the key 2; key, data.  A branch's nodes have the number of the page below in place
of size and flags.  Data that fit in no page lie in pages of their own, behind a head; the node then has the number of
the first.
"""

import mmap
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from caffe_compat.errors import DataError, seen_from

PAGE_HEAD_SIZE = 16
_MAGIC = 0xBEEFC0DE
_META = struct.Struct("=IIQQ" + "IHHQQQQQ" * 2 + "QQ")  # magic, version, address, map size, 2 databases, last page, txn
_PAGE = struct.Struct("=Q2xHH")
_NODE = struct.Struct("=IHH")
_NUMBER = struct.Struct("=Q")
_BRANCH, _LEAF, _KINDS = 1, 2, 0x2F  # of pages
_BIG_DATA = 1  # of nodes
_NO_PAGE = (1 << 64) - 1
_SORTED_VALUES = 0x04 | 0x10 | 0x20 | 0x40  # flags of a tree with several values for a key
_FIRST_PAGE = 2  # behind the two heads
_MAX_DEPTH = 32  # of LMDB itself


class Record(NamedTuple):
    """A record as a database hands it out."""

    key: bytes
    value: memoryview | bytes  # a serialized Datum
    label: int | None = None  # in place of the Datum's own label


class Meta(NamedTuple):
    """What the head of a data.mdb says of its last complete transaction."""

    entries: int
    last_page: int
    transaction: int
    page_size: int
    root: int  # page where the tree of records starts
    flags: int  # of the tree
    file_size: int = 0

    @property
    def full_size(self) -> int:
        """Bytes of the file when every page that was ever taken is written."""
        return (self.last_page + 1) * self.page_size


def data_file(path: str | os.PathLike[str]) -> Path:
    """The ``data.mdb`` of an LMDB given as folder or as file."""
    path = Path(path)
    return path / "data.mdb" if path.is_dir() else path


def read_meta(path: str | os.PathLike[str]) -> Meta:
    """Read and check the two meta pages of ``path`` (a folder or its data.mdb).

    Raises DataError when the file is missing, empty, cut short within its head or not an LMDB.
    """
    file = data_file(path)
    try:
        with open(file, "rb", buffering=0) as handle:
            return _read_meta(handle, file)
    except OSError as error:
        raise DataError(
            f"{path}: no LMDB here ({file.name}: {error.strerror}); make it with convert_imageset{seen_from(path)}"
        ) from None


def _read_meta(handle: BinaryIO, file: Path) -> Meta:
    def meta_at(start: int) -> Meta | None:
        handle.seek(start)
        return _parse_meta(handle.read(PAGE_HEAD_SIZE + _META.size))

    while True:
        first, size = meta_at(0), os.fstat(handle.fileno()).st_size
        if first is None:
            what = "is empty" if not size else "is not an LMDB (wrong magic number)"
            raise DataError(f"{file}: {what}; expected an LMDB of this machine's byte order")
        second = meta_at(first.page_size)
        if second is None and size < 2 * first.page_size:
            raise cut_short(file, first._replace(file_size=size))
        if second is None or second.page_size != first.page_size:
            raise DataError(f"{file}: cannot be read as LMDB: its second head is damaged; copy or convert it again")
        if (meta_at(0), meta_at(first.page_size)) == (
            first,
            second,
        ):  # else another process writes to it
            return max(first, second, key=lambda meta: meta.transaction)._replace(file_size=size)


def _parse_meta(page: bytes) -> Meta | None:
    if len(page) < PAGE_HEAD_SIZE + _META.size:
        return None
    fields = _META.unpack_from(page, PAGE_HEAD_SIZE)
    magic, page_size, entries, last_page, transaction = fields[0], fields[4], fields[18], fields[20], fields[21]
    if magic != _MAGIC or not 256 <= page_size <= 65536 or page_size & (page_size - 1):
        return None
    return Meta(entries, last_page, transaction, page_size, fields[19], fields[13])


def check_meta(meta: Meta, path: Path) -> None:
    """DataError for a head that says of no LMDB of ours what it says."""
    if not meta.entries:
        raise DataError(f"{path}: the LMDB has no records; convert it again")
    if meta.flags & _SORTED_VALUES:
        raise DataError(f"{path}: has several values for a key (DUPSORT); expected one, as Caffe writes it")
    if meta.entries > meta.file_size:
        raise DataError(
            f"{path}: cannot be read as LMDB: its head says {meta.entries} records in {meta.file_size} bytes; damaged, "
            "convert it again"
        )


def cut_short(file: Path, meta: Meta) -> DataError:
    """What to say of a file whose pages are not all there."""
    return DataError(f"{file}: cut short: {meta.file_size} of {meta.full_size} bytes; copy or convert it again")


class Page(NamedTuple):
    """A page of nodes: where it starts in the file, the places of its nodes in it, and whether they are records."""

    start: int
    places: memoryview
    is_leaf: bool


class Tree:
    """The records of an LMDB in key order; ``path`` is its name in messages.  Any number of threads may use it.

    Values are views of the file; they stay valid as long as somebody has them.  What another process writes to the
    file meanwhile is seen, too: ``last_transaction`` tells.
    """

    def __init__(self, file: Path, path: Path) -> None:
        """OSError when the file cannot be mapped."""
        with open(file, "rb", buffering=0) as handle:
            self.meta = _read_meta(handle, file)
            found = os.fstat(handle.fileno())
            self._bytes = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        self.identity, self._file, self._path = (found.st_dev, found.st_ino), file, path
        self._leaves: tuple[array[int], array[int]] | None = None

    def last_transaction(self) -> int:
        """The number of the last transaction that was written to the file."""
        heads = (_META.unpack_from(self._bytes, start + PAGE_HEAD_SIZE) for start in (0, self.meta.page_size))
        return max(int(head[-1]) for head in heads)

    def root(self) -> Page | None:
        """The page where the tree starts; None when there is none."""
        return None if self.meta.root == _NO_PAGE else self.page(self.meta.root)

    def page(self, number: int) -> Page:
        """A page of nodes; DataError when it is none, or behind the file's end."""
        size = self.meta.page_size
        start = number * size
        if number < _FIRST_PAGE or start + size > len(self._bytes):
            self._fail(f"page {number} is not in the file")
        written, flags, end = _PAGE.unpack_from(self._bytes, start)
        if written != number or flags & _KINDS not in (_BRANCH, _LEAF) or not PAGE_HEAD_SIZE <= end <= size or end % 2:
            self._fail(f"page {number} holds no nodes")
        places = self._bytes[start + PAGE_HEAD_SIZE : start + end].cast("H")
        if not places:
            self._fail(f"page {number} is empty")
        return Page(start, places, bool(flags & _LEAF))

    def below(self, page: Page, index: int) -> Page:
        """The page below node ``index`` of a branch."""
        place = page.places[index]
        if place + _NODE.size > self.meta.page_size:
            self._fail(f"a node of page {page.start // self.meta.page_size} leaves it")
        low, high, _ = _NODE.unpack_from(self._bytes, page.start + place)
        return self.page(low | high << 32)

    def key(self, page: Page, index: int) -> bytes:
        """The key of a node."""
        _, _, key_size = self._node(page, index)
        start = page.start + page.places[index] + _NODE.size
        return bytes(self._bytes[start : start + key_size])

    def record(self, page: Page, index: int) -> Record:
        """Node ``index`` of a leaf."""
        return self.records(page, index, index + 1)[0]

    def records(self, page: Page, first: int, last: int) -> list[Record]:
        """Nodes ``first`` to ``last`` - 1 of a leaf."""
        found = []
        view, size = self._bytes, self.meta.page_size
        start, end = page.start, page.start + size
        for place in page.places[first:last]:
            key = start + place + _NODE.size
            if key > end:
                self._fail(f"a node of page {start // size} leaves it")
            length, flags, key_size = _NODE.unpack_from(view, start + place)
            data = key + key_size
            if flags == _BIG_DATA and data + _NUMBER.size <= end:
                (number,) = _NUMBER.unpack_from(view, data)
                value, limit = number * size + PAGE_HEAD_SIZE, len(view) if number >= _FIRST_PAGE else 0
            else:  # with other flags: a database within the database, or several values of one key
                value, limit = data, end if not flags else 0
            if data > end or value + length > limit:
                self._fail(f"record {bytes(view[key : min(data, end)])!r} of {length} bytes does not lie in the file")
            found.append(Record(bytes(view[key:data]), view[value : value + length]))
        return found

    def _node(self, page: Page, index: int) -> tuple[int, int, int]:
        """Size (or page), flags and size of the key; these, and the key, lie within the page."""
        place, size = page.places[index], self.meta.page_size
        if place + _NODE.size <= size:
            node: tuple[int, int, int] = _NODE.unpack_from(self._bytes, page.start + place)
            if place + _NODE.size + node[2] <= size:
                return node
        self._fail(f"a node of page {page.start // size} leaves it")

    def leaves(self) -> Iterator[Page]:
        """The pages of records, in order; DataError where the tree is none."""
        root, seen = self.root(), 0
        waiting = [(root, 1)] if root else []
        while waiting:
            page, depth = waiting.pop()
            seen += 1
            if page.is_leaf:
                yield page
                continue
            if depth > _MAX_DEPTH or seen * self.meta.page_size > len(self._bytes):
                self._fail("its pages are no tree")
            waiting += [(self.below(page, index), depth + 1) for index in reversed(range(len(page.places)))]

    def by_number(self, number: int) -> Record:
        """Record ``number`` (of those that the head says) in key order, whatever the keys are.

        The first call looks once at each page of records.
        """
        if self._leaves is None:
            pages, ends, count = array("Q"), array("Q"), 0
            for page in self.leaves():
                count += len(page.places)
                pages.append(page.start // self.meta.page_size)
                ends.append(count)
            if count != self.meta.entries:
                raise self.wrong_count(count)
            self._leaves = pages, ends
        pages, ends = self._leaves
        leaf = bisect_right(ends, number)
        return self.record(self.page(pages[leaf]), number - (ends[leaf - 1] if leaf else 0))

    def check_whole(self) -> None:
        """DataError when a page of a record lies behind the file's end; looks at each record.

        LMDB does not write pages at the end that were taken and freed again, so that a file may be shorter than its
        head says, and whole.
        """
        try:
            for page in self.leaves():
                self.records(page, 0, len(page.places))
        except DataError:
            raise cut_short(self._file, self.meta) from None

    def wrong_count(self, found: int) -> DataError:
        """What to say where the tree holds another number of records than the head says."""
        return DataError(
            f"{self._path}: damaged: has {found} records, its head says {self.meta.entries}; convert it again"
        )

    def _fail(self, what: str) -> NoReturn:
        raise DataError(f"{self._path}: cannot be read as LMDB: {what}; damaged, or something else")


class TreeCursor:
    """A place in a tree: at a record, or behind the last.  For one thread."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._above: list[tuple[Page, int]] = []  # branches down to the leaf, and which way from each
        self._leaf: Page | None = None
        self._index = 0
        self.first()

    def first(self) -> None:
        """Go to the first record; behind the last where there is none."""
        self._above, self._leaf, self._index = [], None, 0
        root = self._tree.root()
        if root is not None:
            self._descend(root)

    def seek(self, key: bytes) -> None:
        """Go to the first record whose key is not less than ``key``."""
        self._above, self._leaf, self._index = [], None, 0
        page = self._tree.root()
        while page is not None and not page.is_leaf:
            # The key of a branch's first node does not count: nothing lies before it.
            index = max(self._position(page, key, after=True) - 1, 0)
            page = self._step_down(page, index)
        if page is not None:
            self._leaf, self._index = page, self._position(page, key, after=False)
            if self._index == len(page.places):
                self._next_leaf()

    @property
    def at_end(self) -> bool:
        """Whether it is behind the last record; it then has none."""
        return self._leaf is None

    def record(self) -> Record:
        """The record here."""
        assert self._leaf is not None
        return self._tree.record(self._leaf, self._index)

    def take(self, most: int) -> list[Record]:
        """The records from here on that lie in one page, at most ``most``; goes behind them."""
        assert self._leaf is not None
        leaf, first = self._leaf, self._index
        self._index = min(first + most, len(leaf.places))
        if self._index == len(leaf.places):
            self._next_leaf()
        return self._tree.records(leaf, first, first + most)

    def key(self) -> bytes:
        """The key alone, without a look at the value."""
        assert self._leaf is not None
        return self._tree.key(self._leaf, self._index)

    def next(self) -> None:
        """Go to the record after this one."""
        assert self._leaf is not None
        self._index += 1
        if self._index == len(self._leaf.places):
            self._next_leaf()

    def _position(self, page: Page, key: bytes, *, after: bool) -> int:
        """How many of a page's nodes come before ``key``; with ``after``, those that equal it too."""
        low, high = 0, len(page.places)
        while low < high:
            middle = (low + high) // 2
            found = self._tree.key(page, middle) if page.is_leaf or middle else b""
            if found < key or (after and found == key):
                low = middle + 1
            else:
                high = middle
        return low

    def _step_down(self, page: Page, index: int) -> Page:
        if len(self._above) == _MAX_DEPTH:
            self._tree._fail("its pages are no tree")  # noqa: SLF001  (one thing in two classes)
        self._above.append((page, index))
        return self._tree.below(page, index)

    def _descend(self, page: Page) -> None:
        while not page.is_leaf:
            page = self._step_down(page, 0)
        self._leaf, self._index = page, 0

    def _next_leaf(self) -> None:
        self._leaf, self._index = None, 0
        while self._above:
            page, index = self._above.pop()
            if index + 1 < len(page.places):
                self._descend(self._step_down(page, index + 1))
                return
