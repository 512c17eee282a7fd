"""LMDB folders as Caffe writes and reads them: ``data.mdb`` with Datums in key order.

Readers take no lock and write nothing, so a database may lie on a read-only disk.  One
environment per file and process is shared by all readers.  Works without torch.
"""

import mmap
import os
import shutil
import struct
import threading
import warnings
from array import array
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from caffe_compat.errors import DataError, reading, seen_from
from caffe_compat.file_lock import FileLock

_MAGIC = 0xBEEFC0DE
_PAGE_HEADER_SIZE = 16
_META = struct.Struct("=IIQQ" + "IHHQQQQQ" * 2 + "QQ")  # magic, version, address, map size, 2 databases, last page, txn
_PAGE = struct.Struct("=10xHH")
_NODE = struct.Struct("=IHH")
_BRANCH, _LEAF, _BIG_DATA = 1, 2, 1
_NO_PAGE = (1 << 64) - 1
_FIRST_MAP_SIZE = 1 << 28
_RECORDS_PER_COMMIT = 1000
_FULL_DISK_BYTES = 1 << 20


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
            f"{path}: no LMDB here ({file.name}: {error.strerror}); make it with convert_imageset{seen_from(path)}"
        ) from None
    if second is None:
        raise _cut_short(file, first._replace(file_size=size))
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
    with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        if not _records_within(pages, meta):
            raise _cut_short(file, meta)


def _records_within(pages: mmap.mmap, meta: Meta) -> bool:
    """Walk the tree.  A page: number 8 bytes, pad 2, flags 2, end of the nodes' places 2, ...; places, 2 bytes each;
    nodes: size or page 4, flags 2, size of the key 2, key, data."""
    size = meta.page_size
    waiting, seen = [] if meta.root == _NO_PAGE else [meta.root], set[int]()
    while waiting:
        page = waiting.pop()
        start = page * size
        if start + size > len(pages) or page in seen:
            return False
        seen.add(page)
        flags, lower = _PAGE.unpack_from(pages, start)
        if not flags & (_BRANCH | _LEAF) or not _PAGE_HEADER_SIZE <= lower <= size:
            return False
        for (place,) in struct.iter_unpack("=H", pages[start + _PAGE_HEADER_SIZE : start + lower]):
            if place + _NODE.size > size:
                return False
            low, node_flags, key_size = _NODE.unpack_from(pages, start + place)
            if flags & _BRANCH:
                waiting.append(low | node_flags << 32)
            elif node_flags & _BIG_DATA:
                data = place + _NODE.size + key_size
                if data + 8 > size:
                    return False
                (first,) = struct.unpack_from("=Q", pages, start + data)
                if first * size + _PAGE_HEADER_SIZE + low > len(pages):
                    return False
    return True


def _parse_meta(page: bytes) -> Meta | None:
    if len(page) < _PAGE_HEADER_SIZE + _META.size:
        return None
    fields = _META.unpack_from(page, _PAGE_HEADER_SIZE)
    magic, page_size, entries, last_page, transaction = fields[0], fields[4], fields[18], fields[20], fields[21]
    if magic != _MAGIC or not 256 <= page_size <= 65536:
        return None
    return Meta(entries, last_page, transaction, page_size, fields[19])


class _Environments:
    """The open environments of this process, by the identity of their file.

    py-lmdb refuses to open a file twice.  A forked child goes on using what it inherits, which
    is sound because nothing in a read-only, lock-free environment belongs to the parent.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: dict[tuple[int, int], tuple[lmdb.Environment, int]] = {}
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self.lock = threading.Lock()

    def acquire(self, file: Path) -> tuple[tuple[int, int], lmdb.Environment]:
        stat = os.stat(file)
        identity = (stat.st_dev, stat.st_ino)
        with self.lock:
            if identity in self.open:
                environment, users = self.open[identity]
            else:
                environment, users = _open_environment(file, stat.st_size), 0
            self.open[identity] = (environment, users + 1)
        return identity, environment

    def release(self, identity: tuple[int, int]) -> None:
        with self.lock:
            environment, users = self.open.pop(identity)
            if users > 1:
                self.open[identity] = (environment, users - 1)
            else:
                environment.close()


def _open_environment(file: Path, size: int) -> lmdb.Environment:
    def open_mapped(map_size: int) -> lmdb.Environment:
        return lmdb.open(str(file), map_size=map_size, subdir=False, readonly=True, lock=False, readahead=True)

    try:
        return open_mapped(2 * size)  # room for records that others append
    except lmdb.MemoryError:
        return open_mapped(size)


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
        self.meta = read_meta(self.path)
        if not self.meta.entries:
            raise DataError(f"{self.path}: the LMDB has no records; convert it again")
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
            for number, item in enumerate(self.transaction().cursor().iternext(), 1):
                self._check_count(number, at_end=False)
                yield self.checked(*item)
        self._check_count(number)

    def keys(self) -> Iterator[bytes]:
        """All keys in order, without touching the records."""
        number = 0
        with self.errors():
            for number, key in enumerate(self.transaction().cursor().iternext(keys=True, values=False), 1):
                self._check_count(number, at_end=False)
                yield bytes(key)
        self._check_count(number)

    def get(self, key: bytes) -> Record:
        """The record of ``key``; DataError when there is none."""
        with self.errors():
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

    def behind(self) -> int:
        """How many transactions others have written since this reader's view of the database was taken.

        DataError when the file is cut short.  Where it was removed or replaced, what is open stays as it is: 0.
        """
        use = self._open()
        try:
            found = os.stat(self._file)
        except OSError:
            return 0
        if (found.st_dev, found.st_ino) != use.identity:
            return 0
        if found.st_size < min(self.meta.file_size, self.meta.full_size):
            raise _cut_short(self._file, self.meta._replace(file_size=found.st_size))
        return use.last_transaction() - self.meta.transaction

    def overtaken(self) -> bool:
        """Whether what was read may be torn: LMDB writes anew to pages that were freed two transactions ago."""
        return not 0 <= self.behind() <= 1

    def keep_up(self) -> bool:
        """Go on in what others have written meanwhile; whether they have.

        Views and cursors of before are then of no use any more.  (Caffe, which locks what it reads, goes on in what it
        found at first; without a lock old pages may be written anew.)
        """
        if not self.behind():
            return False
        before = len(self)
        self.close()
        self._open()
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
        """Release the environment; views of values become invalid."""
        use, self._use = self._use, None
        if use is not None and use.process == os.getpid():
            use.end()

    def transaction(self) -> lmdb.Transaction:
        """The read transaction of this thread, begun when it is first needed; values are views into it."""
        return self._open().transaction()

    def _open(self) -> "_Use":
        use = self._use
        if use is not None and use.process == os.getpid():
            return use
        if use is not None:
            self._lock = threading.Lock()  # copied by fork(), perhaps while a thread held it that the child lacks
        with self._lock:
            if self._use is None or self._use.process != os.getpid():
                try:
                    self._use = _Use(self._file)
                except (lmdb.Error, OSError) as error:
                    raise DataError(
                        f"{self.path}: cannot be opened as LMDB: {error}{_advice(error)}{seen_from(self.path)}"
                    ) from error
                self._follow()
            return self._use

    def _follow(self) -> None:
        """Take in what the head says now: somebody may have written since it was read."""
        now = read_meta(self._file)
        if now.file_size < min(self.meta.file_size, self.meta.full_size) and now.transaction == self.meta.transaction:
            raise _cut_short(self._file, now)
        if now.transaction != self.meta.transaction:
            check_whole(self._file, now)
            self.meta = now


def _advice(error: Exception) -> str:
    if "already open in this process" in str(error):
        return " LMDB opens a file once in a process: close the lmdb.Environment that holds it, or use its data there"
    return ""


class _Use:
    """What one reader has open in one process: the environment, and a transaction for each thread."""

    def __init__(self, file: Path) -> None:
        self.process = os.getpid()
        self.identity, self._environment = _environments.acquire(file)
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

    def last_transaction(self) -> int:
        """The number of the last transaction that was written to the file."""
        return int(self._environment.info()["last_txnid"])

    def end(self) -> None:
        """Give the environment back."""
        _environments.release(self.identity)


class LMDBCursor:
    """Walks the records in key order and, after the last, starts again, as Caffe's data layer."""

    def __init__(self, reader: LMDBReader, cursor: lmdb.Cursor) -> None:
        self._reader = reader
        self._cursor = cursor
        self._first()
        self._key = bytes(cursor.key())

    def keep_up(self) -> None:
        """Go on at the same key in what others have written meanwhile; records of before are invalid."""
        if self._reader.keep_up():
            with self._reader.errors():
                self._cursor = self._reader.transaction().cursor()
                if not self._cursor.set_range(self._key):
                    self._first()
                self._key = bytes(self._cursor.key())

    def go_back(self, position: str) -> None:
        """Let the next ``keep_up``, which is known to find something new, go on at ``position``."""
        self._key = bytes.fromhex(position)

    def next(self) -> Record:
        """The record at the cursor; moves on."""
        return self.take(1)[0]

    def take(self, count: int) -> list[Record]:
        """The next ``count`` records; moves behind them."""
        records: list[Record] = []
        while True:
            with self._reader.errors():
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
                if not self._cursor.next():
                    self._restart()
            self._key = bytes(self._cursor.key())

    def _restart(self) -> None:
        self._reader.behind()  # a file cut short is found
        with self._reader.errors():
            self._first()

    def _first(self) -> None:
        if not self._cursor.first():
            raise self._reader.wrong_count(0)

    def position(self) -> str:
        """Where the cursor stands, for ``seek`` (the next record's key, in hexadecimal)."""
        return self._key.hex()

    def seek(self, position: str) -> None:
        """Return to a ``position``; DataError when its record is gone."""
        key = bytes.fromhex(position)
        with self._reader.errors():
            found = self._cursor.set_key(key)
        if not found:
            raise DataError(f"{self._reader.path}: no record with key {key!r}, where the saved state stood")
        self._key = key


class NumberIndex:
    """Finds records by number, with no Python object per record; for any number of threads, each with its cursor.

    convert_imageset's keys start with the record's number, so that one search finds a record;
    other databases are walked once and their keys kept in one array.
    """

    def __init__(self, reader: LMDBReader, cursor: lmdb.Cursor) -> None:
        self._count, self._wrong_count = len(reader), reader.wrong_count
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
            if cursor.set_range(prefix) and bytes(cursor.key()).startswith(prefix):
                return bytes(cursor.key()), cursor.value()
            self._walked = self._walk(cursor)  # this number is missing, and another one there twice
        keys, ends = self._walked
        key = keys[ends[number - 1] if number else 0 : ends[number]]
        cursor.set_key(key)
        return key, cursor.value()

    def _walk(self, cursor: lmdb.Cursor) -> "tuple[bytes, array[int]]":
        """All keys in a row, and where each ends."""
        keys = bytearray()
        ends = array("q")
        cursor.first()
        for key in cursor.iternext(keys=True, values=False):
            keys += key
            ends.append(len(keys))
            if len(ends) > self._count:
                break
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
