"""ImageNet: one LMDB, and an index file for each half."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data import open_database, read_mean
from caffe_compat.data.datum import parse_datum
from caffe_compat.data.index_file import is_index_file
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError
from reproduce.dataset import Storage
from reproduce.datasets.imagenet import DATA_SET, prepare
from reproduce.treatments import RANDOM, REDUCED, base_half, transfer

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
    assert prepare(root, networks, tmp_path / "one") == (CLASSES, tmp_path / "one" / "imagenet")
    check(tmp_path / "one")
    (tmp_path / "two").mkdir()
    prepared = tmp_path / "one" / "imagenet"
    assert prepare(prepared, networks, tmp_path / "two") == (CLASSES, prepared)
    check(tmp_path / "two")
    made = {path.stem for path in (prepared / "means").iterdir()}
    assert made == {"half0A", "whole", "reduced-0002"}  # and nothing of the other splits


def test_separate_databases_of_image_files(root: Path, tmp_path: Path) -> None:
    """What Caffe itself can read: LMDBs under the names of the run folders, here of JPEG files."""
    networks = [base_half("0", "A"), base_half("0", "B"), transfer("0", "A", "B", 1)]
    made = DATA_SET.prepare(
        str(root), networks, tmp_path, download=False, tell=print, storage=Storage("jpg", separate=True)
    )
    assert made.test_images == {"half0A": 6, "half0B": 6}
    assert made.same_numbers
    assert (tmp_path / "half0A_train_lmdb" / "data.mdb").is_file()
    reader = LMDBReader(tmp_path / "half0B_train_lmdb")
    datums = [parse_datum(record.value) for record in reader]
    assert sorted(datum.label for datum in datums) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(datum.encoded and bytes(datum.data).startswith(b"\xff\xd8") for datum in datums)
    # the same again from what is prepared, where the form is no longer a choice
    (tmp_path / "again").mkdir()
    prepare(tmp_path / "imagenet", networks, tmp_path / "again")
    assert (tmp_path / "again" / "half0A_valid_lmdb" / "data.mdb").is_file()
    with pytest.raises(DataError, match="is prepared already; leave out --encode-type and --separate"):
        prepare(tmp_path / "imagenet", networks, tmp_path / "again", Storage("jpg"))


def test_what_differs_from_the_authors_is_said(root: Path, tmp_path: Path) -> None:
    networks = [base_half("0", "A"), RANDOM.network(1)]
    made = DATA_SET.prepare(str(root), networks, tmp_path, download=False, tell=print)
    names = ["list half0A.train", "list half0A.valid", "list whole.train", "list whole.valid"]
    assert list(made.checks) == [*names, "mean of all training images"]
    ours = hashlib.md5((tmp_path / "imagenet/lists/half0A.valid.txt").read_bytes()).hexdigest()
    theirs = "2f10009e20d77eb7007cf70674958b94"
    assert made.checks["list half0A.valid"] == f"6 images, MD5 {ours}, the authors' is {theirs}"
    assert made.checks["mean of all training images"].endswith("is not the authors': other images or channels")


def test_refusals(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        prepare(Path("/nowhere"), [], tmp_path)
    with pytest.raises(DataError, match="has no such subset as halfnatmanA"):
        prepare(root, [base_half("natman", "A")], tmp_path)
    assert list(tmp_path.iterdir()) == []
