"""ImageNet: one LMDB, and an index file for each half."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data import open_database, read_mean
from caffe_compat.data.datum import parse_datum
from caffe_compat.data.index_file import is_index_file
from caffe_compat.errors import DataError
from reproduce.datasets.imagenet import prepare
from reproduce.treatments import RANDOM, REDUCED, base_half

CLASSES = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ILSVRC12 in little: six synset folders."""
    root = tmp_path_factory.mktemp("ilsvrc")
    for part, count in (("train", 3), ("val", 2)):
        for c in range(CLASSES):
            folder = root / part / f"n0000000{c}"
            folder.mkdir(parents=True)
            for i in range(count):
                image = np.full((20, 30, 3), 30 * c + i, np.uint8)
                cv2.imwrite(str(folder / f"{part}{c}_{i}.JPEG"), image)
    return root


def check(folder: Path) -> None:
    assert is_index_file(folder / "half0A_train_lmdb")
    drawn = np.sort(np.random.RandomState([0]).choice(np.arange(CLASSES), 3, replace=False))
    for part, count in (("train", 3), ("valid", 2)):
        database = open_database(folder / f"half0A_{part}_lmdb")
        assert len(database) == 3 * count
        for record in database:
            datum = parse_datum(record.value)
            assert (datum.height, datum.width) == (256, 256)
            # JPEG and the image's number change the grey a little; classes are 30 apart.
            assert round(int(datum.array()[0, 0, 0]) / 30) == drawn[record.label]
    assert read_mean(folder / "half0A_mean.binaryproto").shape == (3, 256, 256)
    assert len(open_database(folder / "whole_train_lmdb")) == 3 * CLASSES
    assert len(open_database(folder / "reduced-0002_train_lmdb")) == 2 * CLASSES


def test_folders_and_what_prepare_imagenet_made_of_them(root: Path, tmp_path: Path) -> None:
    networks = [base_half("0", "A"), RANDOM.network(1), REDUCED.network(2)]
    assert prepare(root, networks, tmp_path / "one") == CLASSES
    check(tmp_path / "one")
    (tmp_path / "two").mkdir()
    assert prepare(tmp_path / "one" / "imagenet", networks, tmp_path / "two") == CLASSES
    check(tmp_path / "two")


def test_refusals(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        prepare(Path("/nowhere"), [], tmp_path)
    with pytest.raises(DataError, match=r"halfnatmanA\.train: no such subset"):
        prepare(root, [base_half("natman", "A")], tmp_path)
