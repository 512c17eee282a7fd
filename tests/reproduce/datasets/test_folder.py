"""Class folders, with a folder for testing or without."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data.datum import parse_datum
from caffe_compat.errors import DataError
from reproduce.databases import write_databases
from reproduce.datasets.folder import load_folder
from reproduce.treatments import RANDOM


def write_folder(root: Path, parts: tuple[str, ...] = ("",), classes: int = 4, count: int = 5) -> None:
    for part in parts:
        for c in range(classes):
            folder = root / part / f"c{c}"
            folder.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / f"{i}.png"), np.full((40, 50, 3), 10 * c + i, np.uint8))


def test_class_folders_with_and_without_validation(tmp_path: Path) -> None:
    write_folder(tmp_path / "one")
    images = load_folder(tmp_path / "one")
    assert images.names("valid") == ["c0/0.png", "c1/0.png", "c2/0.png", "c3/0.png"]
    assert len(images.labels("train")) == 16
    write_folder(tmp_path / "two", ("train", "val"))
    images = load_folder(tmp_path / "two")
    assert len(images.labels("valid")) == 20
    datum = parse_datum(images.record("valid", 7, 3))
    assert (datum.height, datum.width, datum.label, int(datum.array()[0, 0, 0])) == (40, 50, 3, 12)


def test_natural_classes_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "natural.txt").write_text("c2\nc0\n")
    assert load_folder(tmp_path).natural == (0, 2)
    (tmp_path / "natural.txt").write_text("c9\n")
    with pytest.raises(DataError, match=r"natural.txt: c9 is not a class"):
        load_folder(tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "c0" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"c0/1.png: cannot be read as an image"):
        write_databases(load_folder(tmp_path), [RANDOM.network(1)], tmp_path / "out", lambda text: None)
    assert not (tmp_path / "out" / "whole_train_lmdb").exists()
