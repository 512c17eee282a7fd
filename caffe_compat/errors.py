"""The package's own exceptions: one class per area, all below :class:`CaffeCompatError`.

A message is one line that says where (file, line, layer, field), what came, what was
expected, and what to do.  Command line tools print it and exit; they never show a traceback
for one of these, unless ``--debug`` asks for it.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager


def seen_from(path: str | os.PathLike[str]) -> str:
    """The end of a message about a file that is not there: the working directory, where ``path`` is relative to it."""
    if os.path.isabs(path):
        return ""
    try:
        return f" (working directory {os.getcwd()})"
    except OSError:
        return " (the working directory has been removed)"


def printable(text: str) -> str:
    """``text`` on one line, with control characters as escapes: names in files are anybody's."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class CaffeCompatError(RuntimeError):
    """Base of every error that caffe_compat raises about the user's files, nets or data; always one line.

    A RuntimeError, which is what scripts written for pycaffe catch.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ProtoError(CaffeCompatError):
    """A prototxt, caffemodel or other message file that cannot be read or written."""


class NetError(CaffeCompatError):
    """A net that Caffe would refuse: unknown layer, wrong shapes, missing blob, bad field."""


class SolverError(CaffeCompatError):
    """A solver file or snapshot that cannot be used."""


class DataError(CaffeCompatError):
    """A database, record, image, mean or list file that cannot be used."""


@contextmanager
def reading(
    path: str | os.PathLike[str], expected: str, error: type[CaffeCompatError] = DataError, place: str = ""
) -> Iterator[None]:
    """For code that reads foreign bytes: whatever a library raises about them becomes one ``error``.

    ``expected``: what the file should be ("a NumPy array"); ``place``: where in the file.  Our own errors pass as
    they are.
    """
    try:
        yield
    except CaffeCompatError:
        raise
    except Exception as problem:
        where = f"{os.fspath(path)}: {place}: " if place else f"{os.fspath(path)}: "
        said_missing = re.search(r"no.?such.?file|(n.t|not) exist", str(problem), re.IGNORECASE)
        if (said_missing or isinstance(problem, FileNotFoundError)) and not os.path.exists(path):
            why = os.strerror(errno.ENOENT)
            raise error(f"{where}cannot be read: {why}; expected {expected}{seen_from(path)}") from problem
        if isinstance(problem, OSError) and problem.strerror and problem.errno:
            why = os.strerror(problem.errno)  # HDF5 hides it in a text of its own
            raise error(f"{where}cannot be read: {why}; expected {expected}{seen_from(path)}") from problem
        raise error(f"{where}cannot be read as {expected}: {reason(problem)}; damaged, or something else") from problem


def reason(problem: BaseException) -> str:
    """What an exception says, on one line; its type where it says nothing."""
    if isinstance(problem, MemoryError):
        return "it asks for more memory than there is"
    return printable(" ".join(str(problem).split())) or type(problem).__name__


def one_line(error: CaffeCompatError | OSError) -> str:
    """What a command prints of an error."""
    if not isinstance(error, OSError):
        return str(error)
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return printable(f"{place}{refusal(error)}")


def refusal(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    """Why the system refuses a file (``path``, where the error does not name it), in words that show the cure."""
    name = error.filename if path is None else path
    if error.errno == errno.ENOENT and isinstance(name, str | os.PathLike):
        folder = os.path.dirname(name) or "."
        if not os.path.isdir(folder):
            return f"{error.strerror}: the folder {os.fspath(folder)} is missing{seen_from(name)}"
        return f"{error.strerror}{seen_from(name)}"
    return error.strerror or str(error)
