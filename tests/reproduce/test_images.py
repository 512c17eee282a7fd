"""Images in memory and in files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data.datum import parse_datum
from caffe_compat.errors import DataError
from reproduce.images import ArrayImages, FileImages, at_size, first_of_each_class, shape_of


def test_images_in_memory() -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    images = ArrayImages(["cat", "dog"], {"train": pixels}, {"train": np.array([1, 0])})
    assert images.names("train") == ["dog/train_00000", "cat/train_00001"]
    datum = parse_datum(images.record("train", 1, 7))
    assert datum.label == 7
    assert np.array_equal(datum.array(), pixels[1])


def write(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(file), image)


def test_images_in_files_are_as_they_are_or_resized(tmp_path: Path) -> None:
    colours = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    write(tmp_path / "train" / "a.png", colours)
    labels = {"train": np.array([0, 0])}
    images = FileImages(tmp_path, ["x"], {"train": ["a.png", "b.png"]}, labels, folders={"train": "train"})
    assert np.array_equal(parse_datum(images.record("train", 0, 0)).array(), colours.transpose(2, 0, 1))
    assert (images.size, shape_of(images)) == (6, (3, 6, 9))
    small = at_size(images, 4)
    assert np.array_equal(
        parse_datum(small.record("train", 0, 0)).array(), cv2.resize(colours, (4, 4)).transpose(2, 0, 1)
    )
    assert (small.size, shape_of(small)) == (4, (3, 4, 4))
    write(tmp_path / "train" / "b.png", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"b\.png: is 8 x 6 pixels, and the first image 9 x 6; bring all to one size"):
        images.record("train", 1, 0)
    (tmp_path / "train" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/a\.png: cannot be read as an image; repair or remove it"):
        images.record("train", 0, 0)


def test_grey_files_stay_grey(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.full((4, 4), 7, np.uint8))
    write(tmp_path / "b.png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    images = FileImages(tmp_path, ["x"], {"train": ["a.png", "b.png"]}, {"train": np.array([0, 0])})
    assert parse_datum(images.record("train", 0, 0)).array().tolist() == [[[7] * 4] * 4]
    with pytest.raises(DataError, match=r"b\.png: has colours, and the first image has none"):
        images.record("train", 1, 0)


def test_images_in_memory_are_resized() -> None:
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    images = at_size(ArrayImages(["x"], {"train": pixels}, {"train": np.array([0, 0])}), 2)
    expected = cv2.resize(pixels[1].transpose(1, 2, 0), (2, 2)).transpose(2, 0, 1)
    datum = parse_datum(images.record("train", 1, 5))
    assert np.array_equal(datum.array(), expected)
    assert datum.label == 5


def test_first_of_each_class() -> None:
    assert first_of_each_class(np.array([2, 0, 2, 2, 0, 1]), 2).tolist() == [0, 1, 2, 4, 5]
