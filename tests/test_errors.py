import inspect
import os

import pytest

from caffe_compat import errors
from caffe_compat.errors import CaffeCompatError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]


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
