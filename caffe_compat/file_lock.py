"""One writer at a time: a lock beside what is written, which ends with its process, however that ends."""

import fcntl
import os
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
