"""Files that are either whole or absent: written beside the target, synced, then renamed.

Links are followed, and what is no regular file (a device, a pipe, this process's /dev/stdout) is written to, not
replaced.  What a killed process has left half-written is removed by the next one that writes into its folder.
"""

import errno
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_LONGEST_NAME_BYTES = 180  # of 255, to leave room for what a temporary name has more
#: machine, process, and what makes it unique; the ending is .tmp unless a writer needs another one
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-\w{8}\.\w+")


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, whose content ``target`` has when the block succeeds.

    It lies in the folder of the target (of the file that a link leads to), which it replaces.  A device or a pipe gets
    the content as a stream instead.  When the block raises, the temporary file is removed and ``target`` stays as it
    was.  Raises OSError (folder missing, disk full, ...) with the system's own message and the target's name.
    """
    stream = _is_stream(target)
    final = Path(os.path.realpath(target))
    temporary = _make_temporary(final.name, None if stream else final.parent, os.fspath(target))
    try:
        yield temporary
        if stream:
            _send(temporary, target)
        else:
            _put_in_place(temporary, final)
    except OSError as error:
        # A full disk shows while bytes are written, where the system names no file, or the temporary one.
        if error.errno is None or error.filename not in (None, temporary, os.fspath(temporary)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_target(target: str | os.PathLike[str]) -> None:
    """OSError where ``target`` can surely not be written: for commands that work long before they write."""
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(target))
    folder = os.path.dirname(os.path.realpath(target))
    problem = errno.ENOENT if not os.path.isdir(folder) else 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES
    if problem and not os.path.exists(target):
        raise OSError(problem, os.strerror(problem), os.fspath(target))


def write_bytes(target: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``target`` so that a kill or a full disk leaves the old file whole."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, atomically."""
    write_bytes(target, text.encode())


def _is_stream(target: str | os.PathLike[str]) -> bool:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _descriptor(target) is not None


def _descriptor(target: str | os.PathLike[str]) -> int | None:
    """The number of this process's open file that ``target``, which exists, stands for (/dev/stdout, /dev/fd/3)."""
    path = os.path.abspath(target)
    while True:
        folder, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
        if folder == f"/proc/{os.getpid()}/fd":
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))


def _make_temporary(name: str, folder: Path | None, target: str) -> Path:
    _remove_stale(folder or Path(tempfile.gettempdir()))
    short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME_BYTES])
    try:
        handle, path = tempfile.mkstemp(prefix=f".{short}.{_machine()}-{os.getpid()}-", suffix=".tmp", dir=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    os.close(handle)
    return Path(path)


@cache
def _machine() -> str:
    """What tells the processes that this one can see from others with the same number."""
    seen = ""
    with suppress(OSError):  # no /proc
        seen = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{platform.node()} {seen}'.encode()):08x}"


@cache
def _remove_stale(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that have ended; once in a process for each folder."""
    with suppress(OSError):
        for name in os.listdir(folder):
            match = _TEMPORARY.fullmatch(name)
            if match and match[1] == _machine() and not _is_alive(int(match[2])):
                with suppress(OSError):
                    os.unlink(folder / name)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # os.kill would end the process that it asks after
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _send(temporary: Path, target: str | os.PathLike[str]) -> None:
    sys.stdout.flush()  # what was printed before comes first, if it is the same stream
    descriptor = _descriptor(target)
    # A descriptor is used as it is: opened anew, a redirected stdout would be written from its start.
    with open(temporary, "rb") as source, open(target if descriptor is None else os.dup(descriptor), "wb") as stream:
        shutil.copyfileobj(source, stream)


def _put_in_place(temporary: Path, final: Path) -> None:
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, final)
    _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost when the machine dies.
    if os.name == "nt":  # which opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
