"""LMDB folders as Caffe writes and reads them: ``data.mdb`` with Datums in key order.

Readers take no lock and write nothing, so a database may lie on a read-only disk.  One
environment per file and process is shared by all readers.  Works without torch.
"""

import os
import shutil
import struct
import threading
from array import array
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from caffe_compat.data.lmdb_pages import LookAhead, PageCheck
from caffe_compat.errors import DataError, reading
from caffe_compat.file_lock import FileLock

_MAGIC = 0xBEEFC0DE
_PAGE_HEADER_SIZE = 16
_META = struct.Struct("=IIQQ" + "IHHQQQQQ" * 2 + "QQ")  # magic, version, address, map size, 2 databases, last page, txn
_SORTED_VALUES = 0x04 | 0x10 | 0x20 | 0x40  # flags of a tree with several values for a key
_FIRST_MAP_SIZE = 1 << 28
_RECORDS_PER_COMMIT = 1000


class Record(NamedTuple):
    """A record as a database hands it out."""

    key: bytes
    value: memoryview | bytes  # a serialized Datum; a view is valid until the reader is closed
    label: int | None = None  # in place of the Datum's own label


class Meta(NamedTuple):
    """What the head of a data.mdb says of its last complete transaction."""

    entries: int
    last_page: int
    transaction: int
    page_size: int
    root: int  # page where the tree of records starts
    depth: int  # pages from there to a record
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
        with open(file, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            first = _parse_meta(handle.read(_PAGE_HEADER_SIZE + _META.size))
            if first is None:
                what = "is empty" if not size else "is not an LMDB (wrong magic number)"
                raise DataError(f"{file}: {what}; expected an LMDB of this machine's byte order")
            handle.seek(first.page_size)
            second = _parse_meta(handle.read(_PAGE_HEADER_SIZE + _META.size))
    except OSError as error:
        raise DataError(
            f"{path}: no LMDB here ({file.name}: {error.strerror}); make it with convert_imageset"
        ) from None
    if second is None and size < 2 * first.page_size:
        raise _cut_short(file, first._replace(file_size=size))
    if second is None or second.page_size != first.page_size:
        raise DataError(f"{file}: cannot be read as LMDB: its second head is damaged; copy or convert it again")
    return max(first, second, key=lambda meta: meta.transaction)._replace(file_size=size)


def _cut_short(file: Path, meta: Meta) -> DataError:
    return DataError(f"{file}: cut short: {meta.file_size} of {meta.full_size} bytes; copy or convert it again")


def check_whole(file: Path, meta: Meta) -> None:
    """DataError when a page of a record lies behind the file's end: reading it would end in SIGBUS.

    LMDB does not write pages at the end that were taken and freed again, so that a file may be shorter than its head
    says.  Only such a file is looked through: it costs time for each record.
    """
    if meta.file_size >= meta.full_size:
        return
    try:
        found = 0
        for count in page_check(file, file, meta).leaves():
            found += count
            if found > meta.entries:
                break
    except DataError:
        raise _cut_short(file, meta) from None


def page_check(path: Path, file: Path, meta: Meta) -> PageCheck:
    """Of the tree of records."""
    return PageCheck(path, file, root=meta.root, depth=meta.depth, page_size=meta.page_size, entries=meta.entries)


def _parse_meta(page: bytes) -> Meta | None:
    if len(page) < _PAGE_HEADER_SIZE + _META.size:
        return None
    fields = _META.unpack_from(page, _PAGE_HEADER_SIZE)
    magic, page_size, entries, last_page, transaction = fields[0], fields[4], fields[18], fields[20], fields[21]
    if magic != _MAGIC or not 256 <= page_size <= 65536 or page_size & (page_size - 1):
        return None
    return Meta(entries, last_page, transaction, page_size, fields[19], fields[14], fields[13])


class _Shared:
    """An environment and how many readers use it."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment, self.users = environment, 1


class _Environments:
    """The open environments of this process, by the identity of their file.

    py-lmdb refuses to open a file twice.  A forked child goes on using what it inherits, which
    is sound because nothing in a read-only, lock-free environment belongs to the parent.
    The lock is one that its thread may take again: garbage collection inside may release what a dropped source used.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open: dict[tuple[int, int], _Shared] = {}
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self.lock = threading.RLock()

    def acquire(self, file: Path) -> tuple[tuple[int, int], lmdb.Environment]:
        stat = os.stat(file)
        identity = (stat.st_dev, stat.st_ino)
        with self.lock:
            shared = self.open.get(identity)
            if shared is None:
                environment = lmdb.open(str(file), subdir=False, readonly=True, lock=False, readahead=True)
                shared = self.open[identity] = _Shared(environment)
            else:
                shared.users += 1
        return identity, shared.environment

    def release(self, identity: tuple[int, int]) -> None:
        with self.lock:
            shared = self.open[identity]
            shared.users -= 1
            if not shared.users:
                del self.open[identity]
                shared.environment.close()


_environments = _Environments()


class LMDBReader:
    """Read-only view of an LMDB; opening is O(1).  Picklable; opens by itself in each process.

    Values are views of the file, valid until ``close``.  A reader that is dropped without it
    leaves the file open (once per process), so that its values stay valid.
    Threads may share a reader: each reads in a transaction of its own.  A cursor is for one thread.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = data_file(path).absolute()  # the working directory may change
        self.meta = read_meta(self._file)
        if not self.meta.entries:
            raise DataError(f"{self.path}: the LMDB has no records; convert it again")
        if self.meta.flags & _SORTED_VALUES:
            raise DataError(f"{self.path}: has several values for a key (DUPSORT); expected one, as Caffe writes it")
        if self.meta.entries > self.meta.file_size:
            raise DataError(
                f"{self.path}: cannot be read as LMDB: its head says {self.meta.entries} records in "
                f"{self.meta.file_size} bytes; damaged, convert it again"
            )
        check_whole(self._file, self.meta)
        self._lock = threading.Lock()
        self._use: _Use | None = None

    def __len__(self) -> int:
        return self.meta.entries

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __iter__(self) -> Iterator[Record]:
        """All records once, in key order."""
        number = 0
        with self.errors():
            ahead = LookAhead(self.pages())
            for number, item in enumerate(self.transaction().cursor().iternext(), 1):
                self._check_count(number, at_end=False)
                yield self.checked(*item)
                ahead.move(1)
        self._check_count(number)

    def keys(self) -> Iterator[bytes]:
        """All keys in order, without touching the records."""
        number = 0
        with self.errors():
            ahead = LookAhead(self.pages())
            for number, key in enumerate(self.transaction().cursor().iternext(keys=True, values=False), 1):
                self._check_count(number, at_end=False)
                yield bytes(key)
                ahead.move(1)
        self._check_count(number)

    def get(self, key: bytes) -> Record:
        """The record of ``key``; DataError when there is none."""
        with self.errors():
            self.pages().look(key)
            value = self.transaction().get(key)
        if value is None:
            raise DataError(f"{self.path}: no record with key {key!r}")
        return self.checked(key, value)

    def record(self, number: int) -> Record:
        """Record ``number`` in key order (0 is the first)."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: record {number} of {len(self)}")
        with self.errors():
            cursor = self.transaction().cursor()
            return self.checked(*self._open().numbers(self, cursor).find(cursor, number))

    def cursor(self) -> "LMDBCursor":
        """A cursor at the first record."""
        with self.errors():
            return LMDBCursor(self, self.transaction().cursor())

    def errors(self) -> AbstractContextManager[None]:
        """Around calls of LMDB: a damaged page becomes a DataError."""
        return reading(self.path, "LMDB")

    def checked(self, key: Any, value: memoryview | bytes) -> Record:
        """A record; DataError when it cannot be one of this file."""
        if len(value) > self.meta.file_size:
            raise DataError(f"{self.path}: record {bytes(key)!r} has {len(value)} bytes, more than the file; damaged")
        return Record(bytes(key), value)

    def _check_count(self, found: int, at_end: bool = True) -> None:
        if found > len(self) or (at_end and found != len(self)):
            raise self.wrong_count(found)

    def wrong_count(self, found: int) -> DataError:
        """What to say where the tree holds another number of records than the head says."""
        return DataError(f"{self.path}: damaged: has {found} records, its head says {len(self)}; convert it again")

    def check_unchanged(self) -> None:
        """DataError when someone has written to the database since it was opened."""
        now = read_meta(self._file)
        if now.file_size < min(self.meta.file_size, self.meta.full_size):
            raise _cut_short(self._file, now)
        if now.transaction != self.meta.transaction:
            raise DataError(
                f"{self.path}: is being written by another process; read it when that has finished, or copy it first"
            )

    def close(self) -> None:
        """Release the environment; views of values become invalid."""
        use, self._use = self._use, None
        if use is not None and use.process == os.getpid():
            use.end()

    def transaction(self) -> lmdb.Transaction:
        """The read transaction of this thread, begun when it is first needed; values are views into it."""
        return self._open().transaction()

    def pages(self) -> PageCheck:
        """Looks at the pages that a transaction is going to need."""
        return self._open().pages

    def _open(self) -> "_Use":
        use = self._use
        if use is not None and use.process == os.getpid():
            return use
        if use is not None:
            self._lock = threading.Lock()  # copied by fork(), perhaps while a thread held it that the child lacks
        with self._lock:
            if self._use is None or self._use.process != os.getpid():
                try:
                    self._use = _Use(self.path, self._file, self.meta)
                except (lmdb.Error, OSError) as error:
                    raise DataError(f"{self.path}: cannot be opened as LMDB: {error}{_advice(error)}") from error
                self.check_unchanged()
            return self._use


def _advice(error: Exception) -> str:
    if "already open in this process" in str(error):
        return " LMDB opens a file once in a process: close the lmdb.Environment that holds it, or use its data there"
    return ""


class _Use:
    """What one reader has open in one process: the environment, and a transaction for each thread."""

    def __init__(self, path: Path, file: Path, meta: Meta) -> None:
        self.process = os.getpid()
        self.pages = page_check(path, file, meta)
        self._identity, self._environment = _environments.acquire(file)
        self._of_thread = threading.local()
        self._numbers: NumberIndex | None = None

    def transaction(self) -> lmdb.Transaction:
        """This thread's: LMDB lets no two threads use one."""
        if not hasattr(self._of_thread, "transaction"):
            self._of_thread.transaction = self._environment.begin(buffers=True)
        transaction: lmdb.Transaction = self._of_thread.transaction
        return transaction

    def numbers(self, reader: LMDBReader, cursor: lmdb.Cursor) -> "NumberIndex":
        """The records by number; made at the first call."""
        if self._numbers is None:
            self._numbers = NumberIndex(reader, cursor)
        return self._numbers

    def end(self) -> None:
        """Give the environment back."""
        _environments.release(self._identity)


class LMDBCursor:
    """Walks the records in key order and, after the last, starts again, as Caffe's data layer."""

    def __init__(self, reader: LMDBReader, cursor: lmdb.Cursor) -> None:
        self._reader = reader
        self._cursor = cursor
        self._first()

    def next(self) -> Record:
        """The record at the cursor; moves on."""
        return self.take(1)[0]

    def take(self, count: int) -> list[Record]:
        """The next ``count`` records; moves behind them."""
        records: list[Record] = []
        while True:
            with self._reader.errors():
                self._ahead.move(count - len(records) - 1)
                ahead = islice(self._cursor.iternext(), count - len(records))
                records += [self._reader.checked(key, value) for key, value in ahead]
            if len(records) == count:
                self.skip(1)
                return records
            self._restart()

    def skip(self, count: int) -> None:
        """Move ``count`` records on."""
        with self._reader.errors():
            for _ in range(count):
                self._ahead.move(1)
                if not self._cursor.next():
                    self._restart()

    def _restart(self) -> None:
        self._reader.check_unchanged()
        with self._reader.errors():
            self._first()

    def _first(self) -> None:
        self._ahead = LookAhead(self._reader.pages())
        if not self._cursor.first():
            raise self._reader.wrong_count(0)

    def position(self) -> str:
        """Where the cursor stands, for ``seek`` (the next record's key, in hexadecimal)."""
        return bytes(self._cursor.key()).hex()

    def seek(self, position: str) -> None:
        """Return to a ``position``; DataError when its record is gone."""
        key = bytes.fromhex(position)
        with self._reader.errors():
            self._ahead = LookAhead(self._reader.pages(), key)
            found = self._cursor.set_key(key)
        if not found:
            raise DataError(f"{self._reader.path}: no record with key {key!r}, where the saved state stood")


class NumberIndex:
    """Finds records by number, with no Python object per record; for any number of threads, each with its cursor.

    convert_imageset's keys start with the record's number, so that one search finds a record;
    other databases are walked once and their keys kept in one array.
    """

    def __init__(self, reader: LMDBReader, cursor: lmdb.Cursor) -> None:
        self._count, self._wrong_count, self._pages = len(reader), reader.wrong_count, reader.pages()
        self._pages.look_at_ends()
        cursor.first()
        first = _number_of(bytes(cursor.key()))
        cursor.last()
        last = _number_of(bytes(cursor.key()))
        numbered = (first, last) == (0, self._count - 1)
        self._walked: tuple[bytes, array[int]] | None = None if numbered else self._walk(cursor)

    def find(self, cursor: lmdb.Cursor, number: int) -> tuple[bytes, memoryview | bytes]:
        """Record ``number``, 0 to count - 1."""
        if self._walked is None:
            prefix = b"%08d" % number
            self._pages.look(prefix, leaves=2)  # the key is the first of the second where its leaf begins with it
            if cursor.set_range(prefix) and bytes(cursor.key()).startswith(prefix):
                return bytes(cursor.key()), cursor.value()
            self._walked = self._walk(cursor)  # this number is missing, and another one there twice
        keys, ends = self._walked
        key = keys[ends[number - 1] if number else 0 : ends[number]]
        self._pages.look(key)
        cursor.set_key(key)
        return key, cursor.value()

    def _walk(self, cursor: lmdb.Cursor) -> "tuple[bytes, array[int]]":
        """All keys in a row, and where each ends."""
        keys = bytearray()
        ends = array("q")
        ahead = LookAhead(self._pages)
        cursor.first()
        for key in cursor.iternext(keys=True, values=False):
            keys += key
            ends.append(len(keys))
            if len(ends) > self._count:
                break
            ahead.move(1)
        if len(ends) != self._count:
            raise self._wrong_count(len(ends))
        return bytes(keys), ends


def _number_of(key: bytes) -> int | None:
    return int(key[:8]) if key[:8].isdigit() and (len(key) == 8 or key[8:9] == b"_") else None


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
