"""CIFAR-100 is read from its pickles, and from nothing else in them."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data.datum import parse_datum
from caffe_compat.errors import DataError
from reproduce.datasets.cifar100 import CIFAR_MAN_MADE, DATA_SET


def test_cifar100_from_a_torchvision_root(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    rgb = np.zeros((6, 3072), np.uint8)
    rgb[:, :1024] = 9  # red
    batch = {b"data": rgb, b"fine_labels": [0, 1, 2, 0, 1, 2]}
    names = {b"fine_label_names": [b"apple", b"bed", b"rose"]}
    for name, content in (("train", batch), ("test", batch), ("meta", names)):
        (folder / name).write_bytes(pickle.dumps(content))
    images = DATA_SET.load(str(tmp_path), download=False)
    assert images.natural == (0, 2)
    pixels = parse_datum(images.record("train", 0, 0)).array()
    assert [int(channel.max()) for channel in pixels] == [0, 0, 9]  # blue, green, red


def test_cifar100_runs_no_code_from_a_pickle(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="meta: cannot be read"):
        DATA_SET.load(str(tmp_path), download=False)


def test_a_folder_without_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no CIFAR-100 here.*--download"):
        DATA_SET.load(str(tmp_path), download=False)


def test_thirty_classes_are_man_made() -> None:
    assert len(CIFAR_MAN_MADE) == 30
