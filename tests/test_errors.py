import errno
import inspect
import os
from pathlib import Path

import pytest

from caffe_compat import errors
from caffe_compat.errors import (
    CaffeCompatError,
    DataError,
    NetError,
    ProtoError,
    one_line,
    printable,
    reading,
    refusal,
    seen_from,
)

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_one_clause_catches_all(cls: type[Exception]) -> None:
    with pytest.raises(CaffeCompatError, match=r"^net\.prototxt:3: wrong$"):
        raise cls("net.prototxt:3: wrong")
    assert not issubclass(cls, OSError | ValueError)


def test_the_areas_are_apart() -> None:
    areas = [cls for cls in CLASSES if cls is not CaffeCompatError]
    assert len(areas) == 4
    assert all(cls.__bases__ == (CaffeCompatError,) for cls in areas)


def test_a_relative_path_is_seen_from_somewhere() -> None:
    assert errors.seen_from("data/list.txt") == f" (working directory {os.getcwd()})"
    assert errors.seen_from("/data/list.txt") == ""


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (ValueError("two\n lines\x1b[1m"), r"^f: cannot be read as a list: two lines\\x1b\[1m; damaged, or"),
        (EOFError(), r"^f: cannot be read as a list: EOFError; damaged"),
        (MemoryError(), r"^f: cannot be read as a list: it asks for more memory than there is; damaged"),
        (
            FileNotFoundError(2, "No such file or directory", "f"),
            r"^f: cannot be read: No such .*; expected a list \(working directory .*\)$",
        ),
    ],
)
def test_what_libraries_raise_becomes_ours(problem: Exception, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught, reading("f", "a list"):
        raise problem
    assert caught.value.__cause__ is problem
    with pytest.raises(ProtoError, match=r"^mine$"), reading("f", "a list"):
        raise ProtoError("mine")


def test_an_error_is_one_line_whatever_a_name_holds() -> None:
    error = DataError('a\nI1126 fake.cpp:1] line: layer "\x1b[31mred\r\x7f\udcff": é')
    assert str(error) == r'a\nI1126 fake.cpp:1] line: layer "\x1b[31mred\r\x7f\udcff": é'
    assert printable("plain é") == "plain é"


def test_a_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "none/a.pt")
    assert one_line(missing) == (
        f"none/a.pt: No such file or directory: the folder none is missing (working directory {tmp_path})"
    )
    assert refusal(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert one_line(OSError(errno.EIO, "I/O", "a\nb")) == r"a\nb: I/O"
    assert one_line(NetError("ours")) == "ours"


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert seen_from("a") == " (the working directory has been removed)"
