"""LevelDB folders, Caffe's older form of a database; needs the package plyvel."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from caffe_compat.data.lmdb import lock_database
from caffe_compat.data.lmdb_pages import Record
from caffe_compat.errors import DataError, reading, seen_from


def is_leveldb(path: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like a LevelDB."""
    return (Path(path) / "CURRENT").is_file() and any(Path(path).glob("MANIFEST-*"))


class LevelDBWriter:
    """Writes a LevelDB; it appears under its name when the ``with`` block ends without an exception."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        plyvel = _import_plyvel(self.path)
        self._error: type[Exception] = plyvel.Error
        self._lock = lock_database(self.path)
        try:
            shutil.rmtree(self.partial, ignore_errors=True)
            self._database = plyvel.DB(str(self.partial), create_if_missing=True, write_buffer_size=256 << 20)
        except (plyvel.Error, OSError) as error:
            self._lock.release()
            raise DataError(f"{self.path}: cannot be created: {_said(error)}") from None

    def __enter__(self) -> "LevelDBWriter":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._database.close()
        try:
            if kind is None:
                os.rename(self.partial, self.path)
            else:  # nobody goes on with it
                shutil.rmtree(self.partial, ignore_errors=True)
        finally:
            self._lock.release()

    def put(self, key: bytes, value: bytes) -> None:
        """Add a record; an earlier one of the same key is replaced."""
        try:
            self._database.put(key, value)
        except (OSError, self._error) as error:
            raise DataError(f"{self.path}: cannot be written: {_said(error)}") from None


def _said(error: Exception) -> str:
    """plyvel's messages are bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


class _Shared:
    """A database and how many readers use it."""

    def __init__(self, database: Any) -> None:
        self.database, self.users = database, 1


class _Databases:
    """The open databases of this process: LevelDB lets a folder be opened only once.

    The lock is one that its thread may take again: garbage collection inside may release what a dropped reader used.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open: dict[str, _Shared] = {}

    def acquire(self, path: Path) -> tuple[str, Any]:
        plyvel = _import_plyvel(path)
        name = os.path.realpath(path)
        with self.lock:
            shared = self.open.get(name)
            if shared is None:
                try:
                    shared = _Shared(plyvel.DB(name, create_if_missing=False))
                except (plyvel.Error, OSError) as error:
                    raise DataError(f"{path}: cannot be opened as LevelDB: {_said(error)}{seen_from(path)}") from None
                self.open[name] = shared
            else:
                shared.users += 1
        return name, shared.database

    def release(self, name: str) -> None:
        with self.lock:
            shared = self.open[name]
            shared.users -= 1
            if not shared.users:
                del self.open[name]
                shared.database.close()


_databases = _Databases()


def _import_plyvel(path: Path) -> Any:
    try:
        import plyvel
    except ImportError:
        raise DataError(f"{path}: a LevelDB needs plyvel: pip install 'caffe-compat[leveldb]'") from None
    return plyvel


class LevelDBReader:
    """Reader of a LevelDB; the same methods as LMDBReader.

    LevelDB lets one process at a time open a database and writes to its folder even so; convert
    to LMDB for parallel reading.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._database: Any = None
        self._count = 0
        self._keys: list[bytes] = []
        with self.errors():
            # At its end an iterator does not say that the last block is damaged; from there it does.
            last = next(self.open().iterator(include_value=False, verify_checksums=True, reverse=True), None)
        if last is None:
            raise DataError(f"{self.path}: the LevelDB has no records, or none that can be read; convert it again")

    def __len__(self) -> int:
        if not self._count:
            self._count = sum(1 for _ in self.keys())
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __iter__(self) -> Iterator[Record]:
        with self.errors():
            for key, value in self.open().iterator(verify_checksums=True):
                yield Record(key, value)

    def keys(self) -> Iterator[bytes]:
        """All keys in order, without the records."""
        with self.errors():
            yield from self.open().iterator(include_value=False, verify_checksums=True)

    def errors(self) -> AbstractContextManager[None]:
        """Around calls of LevelDB: a damaged file becomes a DataError."""
        return reading(self.path, "LevelDB")

    def get(self, key: bytes) -> Record:
        """The record of ``key``; DataError when there is none."""
        with self.errors():
            value = self.open().get(key, verify_checksums=True)
        if value is None:
            raise DataError(f"{self.path}: no record with key {key!r}")
        return Record(key, value)

    def record(self, number: int) -> Record:
        """Record ``number`` in key order; the first call walks all keys."""
        if not self._keys:
            self._keys = list(self.keys())
        if not 0 <= number < len(self._keys):
            raise IndexError(f"{self.path}: record {number} of {len(self._keys)}")
        return self.get(self._keys[number])

    def cursor(self) -> "LevelDBCursor":
        """A cursor at the first record."""
        return LevelDBCursor(self)

    def overtaken(self) -> bool:
        """Never: LevelDB's own lock keeps writers out."""
        return False

    def keep_up(self) -> bool:
        """Nothing to do, for the same reason."""
        return False

    def close(self) -> None:
        """Release the database, so that others can open it."""
        if self._database is not None:
            self._database = None
            _databases.release(self._name)

    def __del__(self) -> None:
        if getattr(self, "_database", None) is not None:
            self.close()

    def open(self) -> Any:
        """The database of this reader, opened when it is first needed."""
        database = self._database
        if database is None:
            with self._lock:
                if self._database is None:
                    self._name, self._database = _databases.acquire(self.path)
                database = self._database
        return database


class LevelDBCursor:
    """Walks the records in key order and, after the last, starts again."""

    def __init__(self, reader: LevelDBReader) -> None:
        self._reader = reader
        self._item: Any = None
        self._restart()

    def keep_up(self) -> None:
        """Nothing to do: LevelDB's own lock keeps writers out."""

    def go_back(self, position: str) -> None:
        """Never asked for: nobody overtakes."""

    def next(self) -> Record:
        """The record at the cursor; moves on."""
        key, value = self._item
        self.skip(1)
        return Record(key, value)

    def take(self, count: int) -> list[Record]:
        """The next ``count`` records; moves behind them."""
        return [self.next() for _ in range(count)]

    def skip(self, count: int) -> None:
        """Move ``count`` records on."""
        for _ in range(count):
            with self._reader.errors():
                self._item = next(self._iterator, None)
            if self._item is None:
                self._restart()

    def position(self) -> str:
        """Where the cursor stands, for ``seek`` (the next record's key, in hexadecimal)."""
        result: str = self._item[0].hex()
        return result

    def seek(self, position: str) -> None:
        """Return to a ``position``; DataError when its record is gone."""
        key = bytes.fromhex(position)
        self._restart(key)
        if self._item[0] != key:
            raise DataError(f"{self._reader.path}: no record with key {key!r}, where the saved state stood")

    def _restart(self, key: bytes | None = None) -> None:
        with self._reader.errors():
            self._iterator = self._reader.open().iterator(start=key, verify_checksums=True)
            self._item = next(self._iterator, None)
        if self._item is None:
            raise DataError(f"{self._reader.path}: has no record{' from ' + repr(key) if key else 's'}; damaged")
