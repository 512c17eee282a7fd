"""The package's own exceptions: one class per area, all below :class:`CaffeCompatError`.

A message is one line that says where (file, line, layer, field), what came, what was
expected, and what to do.  Command line tools print it and exit; they never show a traceback
for one of these.
"""

import os


def seen_from(path: str | os.PathLike[str]) -> str:
    """The end of a message about a file that is not there: the working directory, where ``path`` is relative to it."""
    return "" if os.path.isabs(path) else f" (working directory {os.getcwd()})"


class CaffeCompatError(Exception):
    """Base of every error that caffe_compat raises about the user's files, nets or data."""


class ProtoError(CaffeCompatError):
    """A prototxt, caffemodel or other message file that cannot be read or written."""


class NetError(CaffeCompatError):
    """A net that Caffe would refuse: unknown layer, wrong shapes, missing blob, bad field."""


class SolverError(CaffeCompatError):
    """A solver file or snapshot that cannot be used."""


class DataError(CaffeCompatError):
    """A database, record, image, mean or list file that cannot be used."""
