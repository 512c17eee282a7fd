"""Batches looked up in a table are those of the source, whatever is asked of it in between."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.data import Transformer, encode_datum, open_database, write_lmdb
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.table_source import TableSource, is_suited, table_bytes, table_rows
from tests.data.conftest import COUNT, SHAPE, noise_images, same, write_images

CROP = 9
TRAIN: dict[str, Any] = {"crop_size": CROP, "scale": 0.5, "mean_value": [1.0, 2.0, 3.0]}


def make_source(path: Path, batch_size: int = 4, **options: Any) -> DatabaseSource:
    transformer = Transformer(**options)
    transformer.start_random(3)
    return DatabaseSource(open_database(path), transformer, batch_size)


def as_they_are(images: Tensor) -> Tensor:
    return images


@pytest.mark.parametrize("options", [TRAIN, {**TRAIN, "phase": "TEST"}, {"scale": 0.5}], ids=["crop", "test", "whole"])
def test_the_same_batches_through_several_epochs(database: Path, options: dict[str, Any]) -> None:
    table, plain = TableSource(make_source(database, **options), as_they_are), make_source(database, **options)
    for number in range(9):
        if number == 5:  # reading the state changes nothing
            assert table.state() == plain.state()
        assert same(table.load(), plain.load())
    assert table.state() == plain.state()


def test_features_of_each_image_are_computed_once(database: Path) -> None:
    seen = []

    def sums(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.sum((2, 3))

    table, plain = TableSource(make_source(database, **TRAIN), sums), make_source(database, **TRAIN)
    for _ in range(6):
        features, labels = table.load()
        images, expected = plain.load()
        assert torch.equal(features, images.sum((2, 3)))
        assert torch.equal(labels, expected)
    windows = (SHAPE[1] - CROP + 1) * (SHAPE[2] - CROP + 1)
    assert sum(seen) == COUNT * windows
    assert seen == [n for n in (4, 4, 2) for _ in range(windows)]  # in the order of the database, wherever training is


def test_goes_on_from_a_state(database: Path) -> None:
    table = TableSource(make_source(database, **TRAIN), as_they_are)
    for _ in range(3):
        table.load()
    state = table.state()
    expected = [table.load() for _ in range(4)]
    other = TableSource(make_source(database, **TRAIN), as_they_are)
    other.load()
    other.set_state(state)
    assert all(same(other.load(), batch) for batch in expected)
    plain = make_source(database, **TRAIN)
    plain.set_state(state)
    assert all(same(plain.load(), batch) for batch in expected)


def test_rows_and_bytes(database: Path) -> None:
    source = make_source(database, **TRAIN)
    assert table_rows(source) == COUNT * 4 * 6  # crops of 9 from 12x14
    assert table_rows(make_source(database, **TRAIN, phase="TEST")) == COUNT
    assert table_bytes(7, (3, 2, 2)) == 7 * 12 * 4


def test_what_is_not_suited(tmp_path: Path, database: Path) -> None:
    assert is_suited(make_source(database, **TRAIN))
    assert not is_suited(make_source(database, mirror=True))
    one_of_two = DatabaseSource(open_database(database), Transformer(), 2, rank=0, rank_count=2)
    assert not is_suited(one_of_two)
    assert not is_suited(DatabaseSource(open_database(database), Transformer(), 2, skip_bad_records=1))
    images = [*noise_images(5), noise_images(1, (3, 12, 13))[0]]
    write_lmdb(tmp_path / "sizes", ((f"{i}", encode_datum(image, i)) for i, image in enumerate(images)))
    assert not is_suited(make_source(tmp_path / "sizes", 2, **TRAIN))


def test_the_extension_and_its_twin(image_batches: None, tmp_path: Path) -> None:
    database = write_images(tmp_path / "twin", np.asarray(noise_images(5)))
    table, plain = TableSource(make_source(database, **TRAIN), as_they_are), make_source(database, **TRAIN)
    assert same(table.load(), plain.load())
