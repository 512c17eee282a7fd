"""Two LMDBs of one's own."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import write_lmdb
from caffe_compat.data.datum import encode_datum, parse_datum
from caffe_compat.errors import DataError
from reproduce.datasets.lmdb import DATA_SET


def write_pair(root: Path, labels: list[int]) -> str:
    for part in ("train", "val"):
        records = [(f"{i:08d}", encode_datum(np.full((3, 32, 32), i, np.uint8), y)) for i, y in enumerate(labels)]
        write_lmdb(root / part, records)
    return f"{root / 'train'},{root / 'val'}"


def test_a_pair_of_lmdbs(tmp_path: Path) -> None:
    images = DATA_SET.load(write_pair(tmp_path, [0, 1, 2, 3, 0, 1]), download=False)
    assert (len(images.classes), images.size) == (4, 32)
    datum = parse_datum(images.record("valid", 4, 2))
    assert (datum.label, int(datum.array().max())) == (2, 4)


def test_prototxts_by_the_size_of_an_lmdb() -> None:
    sizes = {28: "miniature/fashion-mnist", 32: "miniature/photos", 256: "paper"}
    assert {size: DATA_SET.prototxt_folder(size) for size in sizes} == sizes
    with pytest.raises(DataError, match="64 pixels"):
        DATA_SET.prototxt_folder(64)


def test_a_label_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image has label 1; expected labels 0 to 2 in both databases"):
        DATA_SET.load(write_pair(tmp_path, [0, 2]), download=False)
