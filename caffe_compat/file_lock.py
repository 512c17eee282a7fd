"""One writer at a time: a lock beside what is written, which ends with its process, however that ends."""

import errno
import os
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from caffe_compat.errors import CaffeCompatError

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)


class FileLock:
    """Holds the file ``path``, made for the purpose, until ``release``, which removes it.

    Raises ``refusal`` when another process, or another FileLock of this one, holds it, and OSError when the file cannot
    be made.  Where the file system has no locks, a warning says so.
    """

    def __init__(self, path: str | os.PathLike[str], refusal: CaffeCompatError) -> None:
        import filelock  # here, because it is slow to load and many processes write nothing

        self.path = Path(path)
        self._lock = filelock.FileLock(self.path, timeout=0, thread_local=False)
        if not self.path.parent.is_dir():  # the library would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path.parent))
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise refusal from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(f"{self.path}: no lock: {error.strerror}; see that nobody else writes here", stacklevel=2)
        self._held = True

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._held:
            self._held = False
            with suppress(OSError):  # whoever opened it meanwhile sees that it is gone, and makes a new one
                self.path.unlink()
            self._lock.release()

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    _held = False


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
