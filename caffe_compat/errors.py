"""The package's own exceptions: one class per area, all below :class:`CaffeCompatError`.

A message is one line that says where (file, line, layer, field), what came, what was
expected, and what to do.  Command line tools print it and exit; they never show a traceback
for one of these, unless ``--debug`` asks for it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def seen_from(path: str | os.PathLike[str]) -> str:
    """The end of a message about a file that is not there: the working directory, where ``path`` is relative to it."""
    return "" if os.path.isabs(path) else f" (working directory {os.getcwd()})"


class CaffeCompatError(RuntimeError):
    """Base of every error that caffe_compat raises about the user's files, nets or data.

    A RuntimeError, which is what scripts written for pycaffe catch.
    """


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
        if isinstance(problem, OSError) and problem.strerror and problem.errno:
            raise error(f"{where}cannot be read: {problem.strerror}; expected {expected}{seen_from(path)}") from problem
        raise error(f"{where}cannot be read as {expected}: {reason(problem)}; damaged, or something else") from problem


def reason(problem: BaseException) -> str:
    """What an exception says, on one line; its type where it says nothing."""
    if isinstance(problem, MemoryError):
        return "it asks for more memory than there is"
    said = " ".join(str(problem).split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in said) or type(problem).__name__
