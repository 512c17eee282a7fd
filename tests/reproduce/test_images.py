"""Images in memory and in files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data.datum import parse_datum
from caffe_compat.errors import DataError
from reproduce.images import ArrayImages, FileImages, first_of_each_class


def test_images_in_memory() -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    images = ArrayImages(["cat", "dog"], {"train": pixels}, {"train": np.array([1, 0])})
    assert images.names("train") == ["dog/train_00000", "cat/train_00001"]
    datum = parse_datum(images.record("train", 1, 7))
    assert datum.label == 7
    assert np.array_equal(datum.array(), pixels[1])


def test_images_in_files_are_resized(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    cv2.imwrite(str(tmp_path / "train" / "a.png"), np.full((6, 9, 3), (10, 20, 30), np.uint8))
    labels = {"train": np.array([0])}
    images = FileImages(tmp_path, ["x"], {"train": ["a.png"]}, labels, 4, folders={"train": "train"})
    array = parse_datum(images.record("train", 0, 0)).array()
    assert array.shape == (3, 4, 4)
    assert [int(channel[0, 0]) for channel in array] == [10, 20, 30]
    (tmp_path / "train" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/a\.png: cannot be read as an image; repair or remove it"):
        images.record("train", 0, 0)


def test_first_of_each_class() -> None:
    assert first_of_each_class(np.array([2, 0, 2, 2, 0, 1]), 2).tolist() == [0, 1, 2, 4, 5]
