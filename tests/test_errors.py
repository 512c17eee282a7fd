import inspect
import os

import pytest

from caffe_compat import errors
from caffe_compat.errors import CaffeCompatError, DataError, ProtoError, reading

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
