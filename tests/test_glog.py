"""Caffe's lines through Python's logging: their form, and what a user of the package can do with them."""

import io
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from caffe_compat.glog import Glog, GlogFormatter, GlogHandler
from caffe_compat.solver import Log

PACKAGE = logging.getLogger("caffe_compat")


class Kept(logging.Handler):
    """A handler of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Beside the package's own handler; what a test changes of the logger is put back."""
    handler, level = Kept(), PACKAGE.level
    monkeypatch.setattr(PACKAGE, "handlers", [*PACKAGE.handlers, handler])
    yield handler
    PACKAGE.setLevel(level)


def test_the_form_of_a_line() -> None:
    facts = {"name": "x", "pathname": "/a/loader.py", "lineno": 26, "args": (), "exc_info": None}
    moment = datetime(2026, 11, 26, 9, 8, 7, 65432)
    for level, letter in ((5, "I"), (20, "I"), (25, "I"), (30, "W"), (40, "E"), (50, "F"), (60, "F")):
        record = logging.LogRecord(level=level, msg="two\nlines\tof it", **facts)  # type: ignore[arg-type]
        record.created = moment.timestamp()
        line = GlogFormatter().format(record)
        assert line == rf"{letter}1126 09:08:07.065432 {threading.get_native_id():5d} loader.py:26] two\nlines\tof it"


def test_records_tell_caffes_place(kept: Kept) -> None:
    stream = io.StringIO()
    Glog(stream).line("solver.cpp:239", "Iteration 100%s, loss = 2", "W", lines="\nmore")
    (record,) = kept.records
    assert (record.name, record.levelname, record.filename) == ("caffe_compat.glog", "WARNING", "solver.cpp")
    assert (record.lineno, record.getMessage()) == (239, "Iteration 100%s, loss = 2\nmore")
    assert re.fullmatch(r"W[\d :.]+ solver\.cpp:239\] Iteration 100%s, loss = 2\nmore\n", stream.getvalue())
    assert stream.getvalue() == GlogFormatter().format(record) + "\n"


def test_handlers_are_added_and_stderr_stays(kept: Kept, capfd: pytest.CaptureFixture[str]) -> None:
    Log().done(3)
    stream = io.StringIO()
    Log(stream).done(4)
    assert [record.getMessage() for record in kept.records] == ["Optimization Done."] * 2
    assert capfd.readouterr().err.count("solver.cpp:332] Optimization Done.\n") == 1, "a stream stands in for stderr"
    assert stream.getvalue().endswith("solver.cpp:332] Optimization Done.\n")


def test_lines_are_redirected(tmp_path: Path, kept: Kept, capfd: pytest.CaptureFixture[str]) -> None:
    file = logging.FileHandler(tmp_path / "log")
    file.setFormatter(GlogFormatter())
    PACKAGE.handlers[:] = [file]
    Log().done(3)
    file.close()
    assert re.fullmatch(r"I\d{4} [\d:.]+ +\d+ solver\.cpp:332\] Optimization Done\.\n", (tmp_path / "log").read_text())
    assert capfd.readouterr().err == ""


def test_lines_are_silenced(kept: Kept, capfd: pytest.CaptureFixture[str]) -> None:
    PACKAGE.setLevel(logging.WARNING)
    stream = io.StringIO()
    for log in (Log(), Log(stream)):
        log.done(3)
        log.warning("a.py:1", "careful")
    assert [record.getMessage() for record in kept.records] == ["careful"] * 2
    assert capfd.readouterr().err.endswith("a.py:1] careful\n")
    assert "Done" not in stream.getvalue()


def test_other_records_of_the_package_have_the_form(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("caffe_compat.data.bad_records").warning("record %d: damaged", 7)
    assert re.fullmatch(r"W\d{4} [\d:.]+ +\d+ test_glog\.py:\d+\] record 7: damaged\n", capfd.readouterr().err)


def run(code: str) -> str:
    """stderr of a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


def test_one_handler_from_the_start() -> None:
    code = """
import logging, sys, caffe_compat
log = logging.getLogger("caffe_compat")
assert "torch" not in sys.modules
assert (len(log.handlers), log.level, log.propagate) == (1, logging.INFO, False)
logging.basicConfig(level=0, format="root %(message)s")
from caffe_compat.solver.log import Log
Log().done(1)
log.propagate = True
Log().done(2)
"""
    line = r"I\d{4} [\d:.]+ +\d+ solver\.cpp:332\] Optimization Done\.\n"
    assert re.fullmatch(rf"{line}{line}root Optimization Done\.\n", run(code))


def test_who_configures_first_is_left_alone() -> None:
    code = """
import logging.config
handlers = {"h": {"class": "logging.StreamHandler"}}
logging.config.dictConfig({"version": 1, "handlers": handlers, "loggers": {"caffe_compat": {"handlers": ["h"]}}})
from caffe_compat.solver.log import Log
Log().done(1)
"""
    assert run(code) == "Optimization Done.\n"


def test_an_error_of_the_stream_is_the_callers() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Glog(Full()).line("a.cpp:1", "x")
    with pytest.raises(OSError, match="No space left"):
        GlogHandler(Full()).handle(logging.makeLogRecord({"levelno": 20}))
