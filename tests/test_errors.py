import errno
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

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


def read_with(reader: str, path: str) -> object:
    """What each room's reader of files makes of ``path``."""
    from caffe_compat import Net, data, proto, solver
    from caffe_compat.data.image_list import ImageList, read_image
    from caffe_compat.data.window_file import WindowFile
    from caffe_compat.solver import resume
    from caffe_compat.solver.events import read_events
    from caffe_compat.tools._exported import load_weights, run_exported

    net = proto.parse_net('layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    readers: dict[str, Callable[[str], object]] = {
        "net": proto.read_net,
        "solver": proto.read_solver,
        "caffemodel": proto.read_caffemodel,
        "solverstate": proto.read_solverstate,
        "blob": proto.read_blob,
        "schema": proto.extend_schema,
        "hdf5 weights": proto.read_hdf5_weights,
        "hdf5 state": proto.read_hdf5_solverstate,
        "resume": resume.read_resume,
        "events": lambda name: list(read_events(name)),
        "log": solver.read_log,
        "database": data.open_database,
        "LMDB": data.LMDBReader,
        "subset": data.SubsetReader,
        "mean": data.read_mean,
        "list": ImageList,
        "image": read_image,
        "windows": lambda name: WindowFile(name, 0.5, 0.5),
        "npy mean": lambda name: data.read_mean(f"{name}.npy"),
        "state dict": lambda name: load_weights(Net(net), Path(f"{name}.pt")),
        "safetensors": lambda name: load_weights(Net(net), Path(f"{name}.safetensors")),
        "pt2": lambda name: run_exported(Path(f"{name}.pt2"), {}),
        "onnx": lambda name: run_exported(Path(f"{name}.onnx"), {}),
    }
    if reader == "all":
        return list(readers)
    return readers[reader](path)


READERS = cast(list[str], read_with("all", ""))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named_with_the_working_directory(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaffeCompatError) as raised:
        read_with(reader, "gone/file")
    told = str(raised.value)
    assert told.startswith("gone/file")
    assert f"(working directory {tmp_path})" in told
    assert "damaged" not in told
