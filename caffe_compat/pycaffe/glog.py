"""pycaffe's ``init_log`` and ``log``: lines in glog's form."""

from caffe_compat.glog import Glog
from caffe_compat.glog_settings import SETTINGS


def init_log(level: int | None = None, stderr: bool = False) -> None:
    """Write lines from severity ``level`` on (0 information, 1 warnings, 2 errors); with ``stderr`` to no file."""
    if level is not None:
        SETTINGS.set("minloglevel", str(int(level)))
    if stderr:
        SETTINGS.set("logtostderr", "1")


def log(s: str) -> None:
    """Write a line of information."""
    Glog().line("pycaffe.py:1", s)
