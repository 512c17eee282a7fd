"""Databases hold the images of their data set, in its order, with its labels."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import read_mean
from caffe_compat.data.datum import parse_datum
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError
from reproduce.databases import record_counts, stored_bytes, write_databases
from reproduce.images import ArrayImages
from reproduce.treatments import RANDOM, REDUCED, base_half, transfer


def small_images(classes: int = 6, per_class: int = 3) -> ArrayImages:
    rng = np.random.default_rng(0)
    labels = np.arange(classes * per_class) % classes
    pixels = {part: rng.integers(0, 256, (len(labels), 3, 8, 8), np.uint8) for part in ("train", "valid")}
    return ArrayImages([f"class{i}" for i in range(classes)], pixels, {"train": labels, "valid": labels})


def test_halves_are_renumbered_and_keep_their_images(tmp_path: Path) -> None:
    images = small_images()
    tests = write_databases(images, [base_half("0", "A"), base_half("0", "B")], tmp_path, lambda text: None)
    assert tests == {"half0A": 9, "half0B": 9}
    drawn = np.sort(np.random.RandomState([0]).choice(np.arange(6), 3, replace=False))
    records = [parse_datum(record.value) for record in LMDBReader(tmp_path / "half0A_valid_lmdb")]
    expected = [i for i, label in enumerate(images.labels("valid")) if label in drawn]
    assert [datum.label for datum in records] == [drawn.tolist().index(images.labels("valid")[i]) for i in expected]
    for datum, i in zip(records, expected, strict=True):
        assert np.array_equal(datum.array(), images.pixels["valid"][i])
    lines = (tmp_path / "half0A_valid.txt").read_text().splitlines()
    assert lines[0] == f"class{drawn[0]}/valid_{expected[0]:05d} 0"


def test_training_records_are_shuffled_and_the_mean_is_theirs(tmp_path: Path) -> None:
    images = small_images(per_class=10)
    write_databases(images, [RANDOM.network(1)], tmp_path, lambda text: None)
    labels = [parse_datum(record.value).label for record in LMDBReader(tmp_path / "whole_train_lmdb")]
    assert sorted(labels) == sorted(images.labels("train"))
    assert labels != images.labels("train").tolist()
    mean = images.pixels["train"].astype(np.float64).mean(0)
    np.testing.assert_allclose(read_mean(tmp_path / "whole_mean.binaryproto"), mean, rtol=1e-5)


def test_reduced_sets_keep_the_first_images_of_each_class(tmp_path: Path) -> None:
    write_databases(small_images(), [REDUCED.network(2)], tmp_path, lambda text: None)
    lines = (tmp_path / "reduced-0002_train.txt").read_text().splitlines()
    assert lines == [f"class{i % 6}/train_{i:05d} {i % 6}" for i in range(12)]
    assert len(LMDBReader(tmp_path / "whole_valid_lmdb")) == 18


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    write_databases(small_images(), [base_half("0", "A")], tmp_path, lambda text: None)
    said: list[str] = []
    write_databases(small_images(), [base_half("0", "A")], tmp_path, said.append)
    assert said == []


def test_a_half_without_images_is_named(tmp_path: Path) -> None:
    images = small_images()
    images.part_labels["valid"] = np.zeros_like(images.part_labels["valid"])
    with pytest.raises(DataError, match=r"half0[AB]: no valid image has one of its 3 classes; give more images"):
        write_databases(images, [base_half("0", half) for half in "AB"], tmp_path, lambda text: None)


def test_records_are_counted_before_they_are_written(tmp_path: Path) -> None:
    networks = [base_half("0", "A"), transfer("0", "A", "A", 1), RANDOM.network(1), REDUCED.network(2)]
    write_databases(small_images(), networks, tmp_path, lambda text: None)
    written = sum(len(LMDBReader(path)) for path in tmp_path.glob("*_lmdb"))
    assert sum(record_counts(small_images(), networks).values()) == written == 9 + 9 + 18 + 18 + 12


def test_large_records_take_whole_pages() -> None:
    assert stored_bytes(196_608 + 16) == 49 * 4096
    assert stored_bytes(3_100) == 4096
    assert stored_bytes(800) == 816
