"""Looks at the pages of an LMDB's tree before LMDB does.

LMDB trusts every number in a page: in a damaged file a wrong one would end the process.  A page: number 8 bytes, pad 2,
flags 2, end of the nodes' places 2, ...; places, 2 bytes each; nodes: size or page 4, flags 2, size of the key 2, key,
data.  All numbers are of this machine's byte order.  Works without torch.
"""

import mmap
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from caffe_compat.errors import DataError

NO_PAGE = (1 << 64) - 1
_PAGE_HEADER_SIZE = 16
_PAGE, _NODE, _NUMBER = struct.Struct("=10xHH"), struct.Struct("=IHH"), struct.Struct("=Q")
_BRANCH, _LEAF, _KINDS = 1, 2, 0x6F  # a page's flags; all kinds that are stored
_BIG_DATA, _LEAF_NODE_FLAGS = 1, 3
_GREATEST_KEY = b"\xff" * 512


class PageCheck:
    """The tree of records in one file; each page is looked at once, when it is first needed.  For any threads."""

    def __init__(self, path: Path, file: Path, *, root: int, depth: int, page_size: int, entries: int) -> None:
        """``path``: for errors; ``root``, ``depth``, ``entries``: what the head says of the tree."""
        self._path, self._root, self._depth, self._size = path, root, depth, page_size
        with open(file, "rb") as handle:
            self._bytes = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._branches: dict[int, tuple[array[int], array[int]]] = {}  # page -> places of its nodes, pages below
        self._leaves: dict[int, int] = {}  # page -> its records
        self._left = entries

    @property
    def done(self) -> bool:
        """Whether there is nothing left to look at."""
        return self._left <= 0

    def look(self, key: bytes = b"", leaves: int = 1) -> None:
        """Look at so many leaves, and all above them, from that in which ``key`` would be.  DataError: damaged."""
        if not self.done:
            for _ in islice(self.leaves(key), leaves):
                pass

    def look_at_ends(self) -> None:
        """Look at the first and the last leaf."""
        self.look()
        self.look(_GREATEST_KEY)

    def leaves(self, key: bytes = b"") -> Iterator[int]:
        """How many records each leaf has, from that in which ``key`` would be; each after a look at it."""
        return self._below(self._root, key, 1) if self._root != NO_PAGE else iter(())

    def _below(self, page: int, key: bytes, depth: int) -> Iterator[int]:
        if depth == self._depth:
            yield self._leaf(page)
            return
        if page not in self._branches:
            self._branches[page] = self._nodes(page, _BRANCH)
        places, below = self._branches[page]
        start = page * self._size
        # The first node stands for all that is less than the second's key.
        first = bisect_right(places, key, lo=1, key=lambda place: self._key_at(start + place)) - 1 if key else 0
        for child in below[first:]:
            yield from self._below(child, key, depth + 1)
            key = b""

    def _leaf(self, page: int) -> int:
        count = self._leaves.get(page)
        if count is None:
            count = self._leaves[page] = len(self._nodes(page, _LEAF)[0])
            self._left -= count
        return count

    def _key_at(self, place: int) -> bytes:
        start = place + _NODE.size
        return self._bytes[start : start + _NODE.unpack_from(self._bytes, place)[2]]

    def _nodes(self, page: int, kind: int) -> "tuple[array[int], array[int]]":
        """The places in the page of its nodes, all within it, their values within the file; a branch's pages below."""
        size, start = self._size, page * self._size
        if start + size > len(self._bytes):
            raise self._damaged(page, "lies behind the file's end")
        flags, lower = _PAGE.unpack_from(self._bytes, start)
        if flags & _KINDS != kind or not _PAGE_HEADER_SIZE < lower <= size or lower % 2:
            raise self._damaged(page, f"is no {'branch' if kind == _BRANCH else 'leaf'} of records")
        places, below = array("H", self._bytes[start + _PAGE_HEADER_SIZE : start + lower]), array("Q")
        for place in places:
            if not lower <= place <= size - _NODE.size:
                raise self._damaged(page, "has records outside of it")
            low, node_flags, key_size = _NODE.unpack_from(self._bytes, start + place)
            end = place + _NODE.size + key_size
            if kind == _BRANCH:
                below.append(low | node_flags << 32)
            elif node_flags & _BIG_DATA:
                end += _NUMBER.size
                if end <= size:
                    self._check_value(page, start + end - _NUMBER.size, low)
            else:
                end += low
            if end > size or (kind == _LEAF and node_flags & ~_LEAF_NODE_FLAGS):
                raise self._damaged(page, "has records outside of it")
        return places, below

    def _check_value(self, page: int, place: int, size: int) -> None:
        """A value in pages of its own, whose first number stands at ``place``."""
        (first,) = _NUMBER.unpack_from(self._bytes, place)
        if first * self._size + _PAGE_HEADER_SIZE + size > len(self._bytes):
            raise self._damaged(page, "has records behind the file's end")

    def _damaged(self, page: int, problem: str) -> DataError:
        return DataError(f"{self._path}: cannot be read as LMDB: page {page} {problem}; damaged, convert it again")


class LookAhead:
    """Goes before a cursor that walks from a record on, ``key`` or the first."""

    def __init__(self, pages: PageCheck, key: bytes = b"") -> None:
        self._leaves = pages.leaves(key) if not pages.done else iter(())
        found = next(self._leaves, NO_PAGE)
        self._sure = 1 if key else found  # records from the cursor on; of a key's leaf it may be the last

    def move(self, records: int) -> None:
        """Look at all that the cursor needs to move so many records on."""
        self._sure -= records
        while self._sure < 1:
            self._sure += next(self._leaves, NO_PAGE)
