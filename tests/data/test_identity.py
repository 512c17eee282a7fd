"""Data sets are told apart by what is in them, at the cost of a few reads."""

import os
import shutil
from pathlib import Path

import numpy as np

from caffe_compat.data.database import open_database
from caffe_compat.data.identity import database_identity, digest, file_identity
from caffe_compat.data.index_file import write_index_file
from tests.data.conftest import noise_images, write_images


def test_a_digest_knows_where_a_part_ends() -> None:
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])
    assert digest([]) != digest([b""])
    assert digest([b"ab"]) == "d1ab1a7fbf5a9552"


def test_a_file_is_its_bytes_and_not_its_name_or_time(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert file_identity(file) == file_identity(tmp_path) == "missing"
    found = set()
    for data in (b"", b"a", b"b", b"ab"):
        file.write_bytes(data)
        found.add(file_identity(file))
    assert len(found) == 4
    shutil.copy(file, tmp_path / "copy")
    os.utime(tmp_path / "copy", (0, 0))
    assert file_identity(tmp_path / "copy") == file_identity(file)
    assert file_identity(file).startswith("2 bytes (")


def test_a_large_file_is_sampled_at_both_ends_and_in_the_middle(tmp_path: Path) -> None:
    whole = bytearray(1 << 20)
    file = tmp_path / "file"
    file.write_bytes(whole)
    before = file_identity(file)
    for place in (0, 1 << 19, (1 << 20) - 1):
        changed = whole.copy()
        changed[place] = 1
        file.write_bytes(changed)
        assert file_identity(file) != before


def test_databases(tmp_path: Path) -> None:
    images = noise_images()
    first = database_identity(open_database(write_images(tmp_path / "a", images)))
    assert first.startswith("10 records (")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert database_identity(open_database(tmp_path / "copy")) == first
    assert database_identity(open_database(write_images(tmp_path / "b", images[:9]))) != first
    assert database_identity(open_database(write_images(tmp_path / "c", noise_images(seed=1)))) != first


def test_a_subset_is_its_list_and_its_database(tmp_path: Path) -> None:
    write_images(tmp_path / "db", noise_images())
    numbers = np.arange(4)

    def identity(labels: np.ndarray) -> str:
        write_index_file(tmp_path / "subset", tmp_path / "db", numbers, labels)
        return database_identity(open_database(tmp_path / "subset"))

    first = identity(numbers)
    assert first.startswith("4 records (")
    assert identity(numbers) == first
    assert identity(numbers + 1) != first
    shutil.rmtree(tmp_path / "db")
    write_images(tmp_path / "db", noise_images(seed=1))
    assert identity(numbers) != first
