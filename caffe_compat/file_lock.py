"""One writer at a time: a lock beside what is written, which ends with its process, however that ends."""

import fcntl
import os
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from caffe_compat.errors import CaffeCompatError


class FileLock:
    """Holds the file ``path``, made for the purpose, until ``release``, which removes it.

    Raises ``refusal`` when another process, or another FileLock of this one, holds it, and OSError when the file cannot
    be made.  Where the file system has no locks, a warning says so.
    """

    def __init__(self, path: str | os.PathLike[str], refusal: CaffeCompatError) -> None:
        self.path = Path(path)
        while True:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._close()
                raise refusal from None
            except OSError as error:
                warnings.warn(f"{self.path}: no lock: {error.strerror}; see that nobody else writes here", stacklevel=3)
            if self._is_there():
                return
            self._close()  # its last holder has removed it meanwhile; once more with a new one

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._handle < 0:
            return
        if self._is_there():
            self.path.unlink(missing_ok=True)
        with suppress(OSError):  # as in __init__, where there are no locks
            fcntl.flock(self._handle, fcntl.LOCK_UN)  # also in children that have inherited the handle
        self._close()

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    def __del__(self) -> None:
        self._close()

    def _is_there(self) -> bool:
        ours = os.fstat(self._handle)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    _handle = -1

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class ProcessLock:
    """A FileLock that all of this process share: only other processes are refused, until the last of them is done."""

    def __init__(self, path: str | os.PathLike[str], refusal: CaffeCompatError) -> None:
        self._name, self._process = os.path.realpath(path), os.getpid()
        with _shared_lock:
            lock, users = _shared.get(self._key()) or (FileLock(path, refusal), 0)
            _shared[self._key()] = (lock, users + 1)
        self._held = True

    def release(self) -> None:
        """Let other processes write, when nobody else of this one holds it; a second call does nothing."""
        if not self._held or self._process != os.getpid():  # a forked child has its parent's in memory
            return
        self._held = False
        with _shared_lock:
            lock, users = _shared.pop(self._key())
            if users > 1:
                _shared[self._key()] = (lock, users - 1)
            else:
                lock.release()

    def __enter__(self) -> "ProcessLock":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    _held = False

    def _key(self) -> tuple[str, int]:
        return self._name, self._process


_shared: dict[tuple[str, int], tuple[FileLock, int]] = {}
_shared_lock = threading.RLock()
