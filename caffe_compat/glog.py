"""Caffe's log by Python's ``logging``: glog's form of a line, the handler that writes it, and what the logs share.

All lines are records below the logger ``caffe_compat``, which has one handler from the start: a ``GlogHandler``, which
writes to stderr and to glog's files.  Its level is INFO, and what it gets goes no further (``propagate`` is False), as
both can be changed, and handlers added, removed or replaced, as with any logger.
"""

import logging
import sys
import threading
from datetime import datetime
from typing import TextIO

from caffe_compat.errors import printable
from caffe_compat.glog_settings import SETTINGS

__all__ = ["GlogFormatter", "GlogHandler"]

_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_PACKAGE = logging.getLogger("caffe_compat")
_LINES = logging.getLogger(__name__)


class GlogFormatter(logging.Formatter):
    """``I1126 10:00:00.123456   321 solver.cpp:239] message``: severity, date, time, thread's number, place, message.

    The place is Caffe's file and line, or those of the Python code that logs (then the message is put on one line).
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        severity = max(record.levelno, logging.INFO)
        letter = next(letter for letter in reversed(_LEVELS) if _LEVELS[letter] <= severity)
        stamp = datetime.fromtimestamp(record.created).strftime("%m%d %H:%M:%S.%f")
        thread = getattr(record, "thread_id", None) or threading.get_native_id()
        place, message = getattr(record, "place", ""), record.message
        if not place:
            place, message = printable(f"{record.filename}:{record.lineno}"), printable(message)
        return f"{letter}{stamp} {thread:5d} {place}] {message}"


class GlogHandler(logging.Handler):
    """Writes glog's lines to ``stream`` (None: the present stderr) and to glog's files, as its settings say.

    Without a stream it leaves out the lines of a ``Log(stream)``, which has written them itself.

    ``minloglevel`` and the like come from the environment (``GLOG_minloglevel``) or from a command's flags.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(GlogFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        if self._stream is None and getattr(record, "written", False):
            return  # to the log's own stream, which stands in for stderr
        # Errors are the caller's: a full disk or a closed pipe ends a command with its one line.
        SETTINGS.write(f"{self.format(record)}\n", self._stream or sys.stderr)


class Glog:
    """What logs have in common: ``stream`` gets the lines in stderr's place, ``enabled=False`` writes nothing."""

    def __init__(self, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        self._own = None if stream is None else GlogHandler(stream)
        self.enabled = enabled

    def line(self, place: str, message: str, severity: str = "I", *, lines: str = "") -> None:
        """One line; ``place`` is ``file:line`` in Caffe, ``severity`` one of I W E F.

        ``message`` stays on its line whatever names are in it; ``lines`` (our own text) follows it as it is.
        """
        level = _LEVELS[severity]
        if not self.enabled or not _LINES.isEnabledFor(level):
            return
        message = "\t".join(map(printable, message.split("\t"))) + lines
        file, _, number = place.rpartition(":")
        facts = {"place": printable(place), "thread_id": threading.get_native_id(), "written": self._own is not None}
        line = int(number) if number.isdigit() else 0
        record = _LINES.makeRecord(_LINES.name, level, file, line, message, (), None, extra=facts)
        if self._own is not None:
            self._own.handle(record)
        _LINES.handle(record)


def set_up() -> None:
    """Give the logger ``caffe_compat`` its handler, unless somebody has given it one before us."""
    if _PACKAGE.level == logging.NOTSET:
        _PACKAGE.setLevel(logging.INFO)
    if not _PACKAGE.handlers:
        _PACKAGE.addHandler(GlogHandler())
        _PACKAGE.propagate = False
