"""pycaffe's ``init_log`` and ``log``: lines in glog's form."""

from caffe_compat.solver.log import Glog

_least = 0


def init_log(level: int | None = None, stderr: bool = False) -> None:
    """Write lines from severity ``level`` on (0 information, 1 warnings, 2 errors); they always go to stderr."""
    global _least
    if level is not None:
        _least = int(level)


def log(s: str) -> None:
    """Write a line of information."""
    Glog(enabled=_least <= 0).line("pycaffe.py:1", s)
