"""LMDB folders as Caffe writes and reads them: ``data.mdb`` with Datums in key order.

Readers take no lock and write nothing, so a database may lie on a read-only disk.  Works without torch.
"""

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from caffe_compat.data.lmdb_pages import Page, Record, Tree, TreeCursor, check_meta, cut_short, data_file, read_meta
from caffe_compat.errors import DataError, seen_from
from caffe_compat.file_lock import FileLock

_FIRST_MAP_SIZE = 1 << 28
_RECORDS_PER_COMMIT = 1000
_FULL_DISK_BYTES = 1 << 20


def being_written(path: Path) -> DataError:
    """What to say where a walk through all records has been overtaken."""
    return DataError(f"{path}: is being written by another process; read it when that has finished, or copy it first")


class LMDBReader:
    """Read-only view of an LMDB; opening is O(1).  Picklable; opens by itself in each process.

    Values are views of the file, valid as long as somebody has them.  Threads may share a reader; a cursor is for one
    thread.  The LMDB library takes no part in reading (see ``lmdb_pages``), so that a program may have the file open
    with it at the same time.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = data_file(path).absolute()  # the working directory may change
        self.meta = read_meta(self.path)
        check_meta(self.meta, self.path)
        self._tree: Tree | None = None
        if self.meta.file_size < self.meta.full_size:
            self.tree()  # which looks it through

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
            if number > tree.meta.entries:
                raise tree.wrong_count(number)
            yield page
            if not 0 <= self._behind(tree) <= 1:
                raise being_written(self.path)
        if number != tree.meta.entries:
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

    def behind(self) -> int:
        """How many transactions others have written since this reader's view of the database was taken.

        DataError when the file is cut short.  Where it was removed or replaced, what is open stays as it is: 0.
        """
        return self._behind(self.tree())

    def _behind(self, tree: Tree) -> int:
        try:
            found = os.stat(self._file)
        except OSError:
            return 0
        if (found.st_dev, found.st_ino) != tree.identity:
            return 0
        if found.st_size < min(tree.meta.file_size, tree.meta.full_size):
            raise cut_short(self._file, tree.meta._replace(file_size=found.st_size))
        return tree.last_transaction() - tree.meta.transaction

    def overtaken(self) -> bool:
        """Whether what was read may be torn: LMDB writes anew to pages that were freed two transactions ago."""
        return not 0 <= self.behind() <= 1

    def keep_up(self) -> bool:
        """Go on in what others have written meanwhile; whether they have.

        Cursors of before are then of no use any more, and values may be written over.  (Caffe, which locks what it
        reads, goes on in what it found at first; without a lock old pages may be written anew.)
        """
        if not self.behind():
            return False
        before = len(self)
        self.close()
        self.tree()
        if not self._told:
            self._told = True
            warnings.warn(
                f"{self.path}: another process has written to it: {before} records before, {len(self)} now; reading "
                "goes on in what is there now",
                stacklevel=2,
            )
        return True

    _told = False

    def close(self) -> None:
        """Let the file go, as soon as nobody has a view of it."""
        self._tree = None

    def tree(self) -> Tree:
        """The pages, mapped when they are first needed, as they are then."""
        tree = self._tree
        if tree is None:
            try:
                tree = Tree(self._file, self.path)
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: cannot be opened as LMDB: {error}{seen_from(self.path)}") from error
            now, before = tree.meta, self.meta
            check_meta(now, self.path)
            if now.transaction == before.transaction and now.file_size < min(before.file_size, before.full_size):
                raise cut_short(self._file, now)
            if now.file_size < now.full_size:
                tree.check_whole()
            self.meta, self._tree = now, tree
        return tree


class LMDBCursor:
    """Walks the records in key order and, after the last, starts again, as Caffe's data layer."""

    def __init__(self, reader: LMDBReader) -> None:
        self._reader = reader
        self._go_to(reader.tree())

    def keep_up(self) -> None:
        """Go on at the same key in what others have written meanwhile; values of before may be written over."""
        self._reader.keep_up()
        tree = self._reader.tree()
        if tree is not self._tree:
            self._go_to(tree, self._key)

    def go_back(self, position: str) -> None:
        """Let the next ``keep_up``, which is known to find something new, go on at ``position``."""
        self._key = bytes.fromhex(position)

    def _go_to(self, tree: Tree, key: bytes = b"") -> None:
        """The first record in ``tree`` whose key is not less than ``key``, or the first of all."""
        cursor = TreeCursor(tree)
        if key:
            cursor.seek(key)
        self._tree, self._cursor = tree, cursor
        self._restart_at_end()
        self._key = self._cursor.key()

    def next(self) -> Record:
        """The record at the cursor; moves on."""
        return self.take(1)[0]

    def take(self, count: int) -> list[Record]:
        """The next ``count`` records; moves behind them."""
        records: list[Record] = []
        while len(records) < count:
            records += self._cursor.take(count - len(records))
            self._restart_at_end()
        self._key = self._cursor.key()
        return records

    def skip(self, count: int) -> None:
        """Move ``count`` records on."""
        for _ in range(count):
            self._cursor.next()
            self._restart_at_end()
        self._key = self._cursor.key()

    def _restart_at_end(self) -> None:
        if self._cursor.at_end:
            self._reader.behind()  # a file cut short is found
            self._cursor.first()
            if self._cursor.at_end:
                raise self._tree.wrong_count(0)

    def position(self) -> str:
        """Where the cursor stands, for ``seek`` (the next record's key, in hexadecimal)."""
        return self._key.hex()

    def seek(self, position: str) -> None:
        """Return to a ``position``; DataError when its record is gone."""
        key = bytes.fromhex(position)
        moved = TreeCursor(self._tree)
        moved.seek(key)
        if moved.at_end or moved.key() != key:
            raise DataError(f"{self._reader.path}: no record with key {key!r}, where the saved state stood")
        self._cursor, self._key = moved, key


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
        raise DataError(f"{path}: cannot be created: {_why(error)}{seen_from(path)}") from None
    try:
        _check_new(path)  # another one may have finished it in between
    except DataError:
        lock.release()
        raise
    return lock


def _why(error: Exception) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file, not a folder"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


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
            raise DataError(f"{self.path}: cannot be created: {_why(error)}{seen_from(self.path)}") from None
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
            nothing = issubclass(kind, DataError) and not self.count()  # to go on with
            self._environment.close()
            if nothing:
                shutil.rmtree(self.partial, ignore_errors=True)
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
                # LMDB reports a full disk as an input/output error, so that only the disk itself can tell.
                full = shutil.disk_usage(self.partial).free < _FULL_DISK_BYTES
                why = "no space left on the disk; free some or write elsewhere" if full else str(error)
                raise DataError(f"{self.path}: cannot be written: {why}") from None

    def finish(self) -> None:
        """Write the rest, and give the folder its name."""
        try:
            self.commit()
            try:
                self._environment.sync(True)
            except lmdb.Error as error:
                raise DataError(f"{self.path}: cannot be written: {error}") from None
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
