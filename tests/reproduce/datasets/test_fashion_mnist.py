"""Fashion-MNIST is read from its idx files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data.datum import parse_datum
from caffe_compat.errors import DataError
from reproduce.datasets.fashion_mnist import DATA_SET


def write_idx(file: Path, array: np.ndarray) -> None:
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    file.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_fashion(root: Path) -> Path:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 40), ("t10k", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", np.arange(count * 784).reshape(count, 28, 28) % 251)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


def test_fashion_mnist_from_a_torchvision_root(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    images = DATA_SET.load(str(tmp_path), download=False)
    assert (len(images.classes), images.size, len(images.labels("train"))) == (10, 28, 40)
    datum = parse_datum(images.record("train", 1, 7))
    assert (datum.channels, datum.label) == (1, 7)
    assert np.array_equal(datum.array().ravel(), np.arange(784, 1568) % 251)


def test_fashion_mnist_cut_short_is_named(tmp_path: Path) -> None:
    folder = write_fashion(tmp_path)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-5]))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: not an idx file"):
        DATA_SET.load(str(tmp_path), download=False)


def test_upper_body_is_the_natural_half(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    images = DATA_SET.load(str(tmp_path), download=False)
    names = [images.classes[label] for label in images.natural]
    assert names == ["t-shirt", "pullover", "dress", "coat", "shirt"]


def test_a_folder_without_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Fashion-MNIST here.*apt-get install"):
        DATA_SET.load(str(tmp_path), download=False)


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    file = write_fashion(tmp_path) / "train-images-idx3-ubyte.gz"
    data = bytearray(file.read_bytes())
    data[10:30] = b"\xff" * 20
    file.write_bytes(data)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read as an idx file of 3 axes: .*damaged"
    ):
        DATA_SET.load(str(tmp_path), download=False)
