"""Files of mean images."""

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


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.binaryproto").write_bytes(b"\x0f\xff")
    with pytest.raises(CaffeCompatError, match=r"bad.binaryproto"):
        read_mean(tmp_path / "bad.binaryproto")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"mean has shape \(3,\)"):
        read_mean(tmp_path / "flat.npy")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(DataError, match=r"text.npy: cannot be read as a NumPy array"):
        read_mean(tmp_path / "text.npy")
    with pytest.raises(DataError, match="absent: no such mean file; make it with compute_image_mean"):
        read_mean(tmp_path / "absent")
