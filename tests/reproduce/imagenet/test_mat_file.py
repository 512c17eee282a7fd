"""MATLAB files of level 5, as SciPy 1.17 wrote them for these tests."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.errors import DataError
from reproduce.imagenet.mat_file import read_mat

KIT = Path(__file__).parents[2] / "golden" / "devkit"


@pytest.mark.parametrize("name", ["meta.mat", "meta_plain.mat"])
def test_what_scipy_wrote(name: str) -> None:
    """With and without compression: a structure array as the development kit's, text, cells."""
    found = read_mat(KIT / name)
    assert found["note"] == "drawn for the tests"
    number, text = found["cells"]
    assert (number.tolist(), text) == ([1.5], "x")
    rows = [(int(row["ILSVRC2012_ID"][0]), row["WNID"], row["words"]) for row in found["synsets"]]
    assert rows == [
        (3, "n00000009", "last"),
        (1, "n00000002", "first, of two words"),
        (2, "n00000005", "zweites \u2013 \u00e9"),
        (4, "n00000001", "above"),
    ]
    assert [row["children"].tolist() for row in found["synsets"]] == [[], [0.0], [0.0, 1.0], [0.0, 1.0, 2.0]]
    assert found["synsets"][1]["num_children"].dtype == np.int16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "is no MATLAB file of level 5"),
        (lambda data: data[:-5], "cannot be read as a MATLAB file of level 5"),
        (lambda data: data[:128] + data[128:].replace(b"\x0e\0\0\0", b"\x0e\0\0\x7f"), "cannot be read as a MATLAB"),
        (lambda data: data[:128] + packed(packed(data[128:])), "a compressed element in another one"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    file = tmp_path / "meta.mat"
    file.write_bytes(change((KIT / "meta_plain.mat").read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        read_mat(file)
    assert "\n" not in str(caught.value)


def packed(data: bytes) -> bytes:
    body = zlib.compress(data)
    return (15).to_bytes(4, "little") + len(body).to_bytes(4, "little") + body
