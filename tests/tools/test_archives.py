"""Archives that would ask for more memory than their size."""

import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.errors import CaffeCompatError
from caffe_compat.tools._archives import check_members


def archive_of(path: Path, method: int) -> Path:
    array = io.BytesIO()
    np.save(array, np.zeros(1000))
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("a.npy", array.getvalue())
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_numpy_and_pytorch_write_passes(tmp_path: Path, method: int) -> None:
    path = archive_of(tmp_path / "a.npz", method)
    with zipfile.ZipFile(path) as file:
        check_members(path, file)


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_a_method_that_takes_any_memory(tmp_path: Path, method: int, number: int) -> None:
    path = archive_of(tmp_path / "a.npz", method)
    said = f"{path}: a.npy is packed by method {number}; expected stored (0) or deflated (8)"
    with zipfile.ZipFile(path) as file, pytest.raises(CaffeCompatError, match=f"^{re.escape(said)}$"):
        check_members(path, file)


@pytest.mark.parametrize("field", [20, 24], ids=["packed", "unpacked"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_the_file_cannot_hold(tmp_path: Path, method: int, field: int) -> None:
    path = archive_of(tmp_path / "a.npz", method)
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    data[entry + field : entry + field + 4] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    said = f"{path}: a.npy has {2**31} bytes, more than the file; damaged"
    with zipfile.ZipFile(path) as file, pytest.raises(CaffeCompatError, match=f"^{re.escape(said)}$"):
        check_members(path, file)
