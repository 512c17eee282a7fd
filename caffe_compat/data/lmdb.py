"""LMDB folders as Caffe writes and reads them: ``data.mdb`` with Datums in key order.

Readers take no lock and write nothing, so a database may lie on a read-only disk.  Works without torch.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from caffe_compat.data.lmdb_pages import Page, Record, Tree, TreeCursor, check_whole, cut_short, data_file, read_meta
from caffe_compat.errors import DataError
from caffe_compat.file_lock import FileLock

_FIRST_MAP_SIZE = 1 << 28
_RECORDS_PER_COMMIT = 1000


class LMDBReader:
    """Read-only view of an LMDB; opening is O(1).  Picklable; opens by itself in each process.

    Values are views of the file, valid as long as somebody has them.  Threads may share a reader; a cursor is for one
    thread.  The LMDB library takes no part in reading (see ``lmdb_pages``), so that a program may have the file open
    with it at the same time.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = data_file(path).absolute()  # the working directory may change
        self.meta = read_meta(self._file)
        if not self.meta.entries:
            raise DataError(f"{self.path}: the LMDB has no records; convert it again")
        check_whole(self._file, self.meta, self.path)
        self._tree: Tree | None = None

    def __len__(self) -> int:
        return self.meta.entries

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __iter__(self) -> Iterator[Record]:
        """All records once, in key order."""
        tree = self.tree()
        for page in self._pages(tree):
            yield from tree.records(page, 0, len(page.places))

    def keys(self) -> Iterator[bytes]:
        """All keys in order, without touching the records."""
        tree = self.tree()
        for page in self._pages(tree):
            for index in range(len(page.places)):
                yield tree.key(page, index)

    def _pages(self, tree: Tree) -> Iterator[Page]:
        """The pages of records; DataError as soon as they hold more than the head says, or at the end, fewer."""
        number = 0
        for page in tree.leaves():
            number += len(page.places)
            if number > len(self):
                raise tree.wrong_count(number)
            yield page
        if number != len(self):
            raise tree.wrong_count(number)

    def get(self, key: bytes) -> Record:
        """The record of ``key``; DataError when there is none."""
        cursor = TreeCursor(self.tree())
        cursor.seek(key)
        if cursor.at_end or cursor.key() != key:
            raise DataError(f"{self.path}: no record with key {key!r}")
        return cursor.record()

    def record(self, number: int) -> Record:
        """Record ``number`` in key order (0 is the first)."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: record {number} of {len(self)}")
        return self.tree().by_number(number)

    def cursor(self) -> "LMDBCursor":
        """A cursor at the first record."""
        return LMDBCursor(self)

    def check_unchanged(self) -> None:
        """DataError when someone has written to the database since it was opened."""
        now = read_meta(self._file)
        if now.file_size < min(self.meta.file_size, self.meta.full_size):
            raise cut_short(self._file, now)
        if now.transaction != self.meta.transaction:
            raise DataError(
                f"{self.path}: is being written by another process; read it when that has finished, or copy it first"
            )

    def close(self) -> None:
        """Let the file go, as soon as nobody has a view of it."""
        self._tree = None

    def tree(self) -> Tree:
        """The pages, mapped when they are first needed."""
        tree = self._tree
        if tree is None:
            try:
                tree = Tree(self._file, self.meta, self.path)
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: cannot be opened as LMDB: {error}") from error
            self.check_unchanged()
            self._tree = tree
        return tree


class LMDBCursor:
    """Walks the records in key order and, after the last, starts again, as Caffe's data layer."""

    def __init__(self, reader: LMDBReader) -> None:
        self._reader, self._tree = reader, reader.tree()
        self._cursor = TreeCursor(self._tree)
        self._check()

    def next(self) -> Record:
        """The record at the cursor; moves on."""
        return self.take(1)[0]

    def take(self, count: int) -> list[Record]:
        """The next ``count`` records; moves behind them."""
        records: list[Record] = []
        while len(records) < count:
            records += self._cursor.take(count - len(records))
            self._restart_at_end()
        return records

    def skip(self, count: int) -> None:
        """Move ``count`` records on."""
        for _ in range(count):
            self._cursor.next()
            self._restart_at_end()

    def _restart_at_end(self) -> None:
        if self._cursor.at_end:
            self._reader.check_unchanged()
            self._cursor.first()
            self._check()

    def _check(self) -> None:
        if self._cursor.at_end:
            raise self._tree.wrong_count(0)

    def position(self) -> str:
        """Where the cursor stands, for ``seek`` (the next record's key, in hexadecimal)."""
        return self._cursor.key().hex()

    def seek(self, position: str) -> None:
        """Return to a ``position``; DataError when its record is gone."""
        key = bytes.fromhex(position)
        moved = TreeCursor(self._tree)
        moved.seek(key)
        if moved.at_end or moved.key() != key:
            raise DataError(f"{self._reader.path}: no record with key {key!r}, where the saved state stood")
        self._cursor = moved


def lock_database(path: Path) -> FileLock:
    """The right to write a new database ``path``; DataError when it exists, is being written, or cannot be."""
    _check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(
            path.with_name(f".{path.name}.lock"),
            DataError(f"{path}: is being written by another process; wait for it, or choose another name"),
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be created: {error}") from None
    try:
        _check_new(path)  # another one may have finished it in between
    except DataError:
        lock.release()
        raise
    return lock


def _check_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise DataError(f"{path}: already exists; remove it or choose another name")


class LMDBWriter:
    """Appends records to an LMDB folder in batches; the map grows as needed.

    The folder is complete, and appears under its name, only when the ``with`` block ends
    without an exception; until then it is called ``<name>.partial``.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        """``resume``: go on with a ``.partial`` folder that an earlier run left."""
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._lock = lock_database(self.path)
        try:
            if not resume:
                shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True, exist_ok=True)
            self._environment = lmdb.open(str(self.partial), map_size=self._first_map_size(), writemap=False)
        except (lmdb.Error, OSError) as error:
            self._lock.release()
            raise DataError(f"{self.path}: cannot be created: {error}") from None
        self._pending: list[tuple[bytes, bytes]] = []

    def _first_map_size(self) -> int:
        file = self.partial / "data.mdb"
        return max(_FIRST_MAP_SIZE, 2 * file.stat().st_size if file.exists() else 0)

    def __enter__(self) -> "LMDBWriter":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.finish()
        else:
            self._environment.close()
            self._lock.release()

    def last_key(self) -> bytes | None:
        """The greatest key written so far (after a resume), or None."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            return cursor.key() if cursor.last() else None

    def count(self) -> int:
        """How many records are written so far, without those pending."""
        return self._environment.stat()["entries"]

    def put(self, key: bytes, value: bytes) -> None:
        """Add a record; an earlier one of the same key is replaced, as in Caffe."""
        self._pending.append((key, value))
        if len(self._pending) >= _RECORDS_PER_COMMIT:
            self.commit()

    def commit(self) -> None:
        """Write what is pending."""
        while self._pending:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value)
                self._pending.clear()
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.BadValsizeError:
                key = next(k for k, _ in self._pending if not 0 < len(k) <= 511)
                raise DataError(f"{self.path}: key {key!r} has {len(key)} bytes; LMDB takes 1 to 511") from None
            except lmdb.Error as error:
                raise DataError(f"{self.path}: cannot be written: {error}") from None

    def finish(self) -> None:
        """Write the rest, and give the folder its name."""
        try:
            self.commit()
            self._environment.sync(True)
            self._environment.close()
            (self.partial / "lock.mdb").unlink(missing_ok=True)
            os.rename(self.partial, self.path)
        finally:
            self._environment.close()
            self._lock.release()


def write_lmdb(path: str | os.PathLike[str], records: Iterable[tuple[bytes | str, bytes]]) -> int:
    """Write an LMDB of ``(key, Datum bytes)`` and return how many; atomic (see LMDBWriter).

    Raises DataError when ``path`` exists or cannot be written.
    """
    count = 0
    with LMDBWriter(path) as writer:
        for key, value in records:
            writer.put(key.encode() if isinstance(key, str) else key, value)
            count += 1
    return count
