"""Files of mean images."""

import struct
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import read_mean, write_mean
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.proto import caffe_pb2, write_blob


@pytest.mark.parametrize("name", ["mean.binaryproto", "mean.npy"])
def test_files_come_back(tmp_path: Path, name: str) -> None:
    mean = np.random.default_rng(0).random((3, 4, 5), np.float32)
    write_mean(tmp_path / name, mean)
    assert (read_mean(tmp_path / name) == mean).all()


def test_the_blob_has_the_four_axes_of_caffes_tool(tmp_path: Path) -> None:
    write_mean(tmp_path / "mean.binaryproto", np.full((3, 4, 5), 7, np.float32))
    blob = caffe_pb2.BlobProto.FromString((tmp_path / "mean.binaryproto").read_bytes())
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 3, 4, 5) or list(blob.shape.dim) == [1, 3, 4, 5]
    assert set(blob.data) == {7}


def test_leading_axes_of_one_are_dropped(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.ones((1, 1, 3, 2, 2), np.float64))
    mean = read_mean(tmp_path / "mean.npy")
    assert mean.shape == (3, 2, 2)
    assert mean.dtype == np.float32
    write_blob(tmp_path / "two.binaryproto", np.ones((2, 3, 2, 2), np.float32))
    with pytest.raises(DataError, match=r"mean has shape \(2, 3, 2, 2\); expected one image"):
        read_mean(tmp_path / "two.binaryproto")


def npy(header: bytes) -> bytes:
    """The start of an .npy file."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.binaryproto").write_bytes(b"\x0f\xff")
    with pytest.raises(CaffeCompatError, match=r"bad.binaryproto"):
        read_mean(tmp_path / "bad.binaryproto")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"mean has shape \(3,\)"):
        read_mean(tmp_path / "flat.npy")
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': (%s,), }"
    damaged = {
        b"no array": "cannot be read as a NumPy array",
        b"": "cannot be read as a NumPy array: .*",
        b"PK\3\4": "cannot be read as a NumPy array: File is not a zip file",
        npy(header % (b"<f4", b"3, 100000, 10000000")): "cannot be read as a NumPy array: mmap length is greater than",
        npy(header % (b"<U4", b"1, 1, 1")) + bytes(16): "is an array of <U4; expected one array of numbers",
        npy(b"{'descr': ("): "cannot be read as a NumPy array: ",
    }
    for data, message in damaged.items():
        (tmp_path / "text.npy").write_bytes(data)
        with pytest.raises(DataError, match=f"text.npy: {message}"):
            read_mean(tmp_path / "text.npy")
    np.savez(tmp_path / "two.npz", a=np.ones((3, 2, 2)))
    (tmp_path / "two.npz").rename(tmp_path / "zip.npy")
    with pytest.raises(DataError, match=r"zip.npy: is an .npz archive; expected one array"):
        read_mean(tmp_path / "zip.npy")
    with pytest.raises(DataError, match="absent: no such mean file; make it with compute_image_mean"):
        read_mean(tmp_path / "absent")
