import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from caffe_compat.data import LMDBDataset, encode_datum, write_index_file, write_lmdb
from caffe_compat.errors import DataError
from tests.data.conftest import COUNT, SHAPE, append


def test_images_and_labels(database: Path, images: np.ndarray) -> None:
    dataset = LMDBDataset(database)
    assert len(dataset) == COUNT
    image, label = dataset[-1]
    assert label == COUNT - 1
    assert image.dtype == torch.uint8
    assert (image.numpy() == images[-1]).all()
    with pytest.raises(IndexError):
        dataset[COUNT]


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_see_everything(database: Path, images: np.ndarray, start: str) -> None:
    dataset = LMDBDataset(database)
    dataset[0]  # open here too: workers must not share it
    loader = DataLoader(dataset, 3, num_workers=2, shuffle=True, multiprocessing_context=start)
    for _ in range(2 if start == "fork" else 1):
        seen = {int(label): image for batch in loader for image, label in zip(*batch, strict=True)}
        assert sorted(seen) == list(range(COUNT))
        assert all((seen[i].numpy() == images[i]).all() for i in seen)


def test_transform_subset_and_pickling(database: Path) -> None:
    write_index_file(database.with_name("subset"), database, np.array([7, 1]), np.array([0, 1]))
    dataset = LMDBDataset(database.with_name("subset"), transform=torch.Tensor.float)
    again = pickle.loads(pickle.dumps(dataset))
    assert [again[i][1] for i in range(2)] == [0, 1]
    assert again[0][0].dtype == torch.float32
    assert again[0][0].shape == SHAPE


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such database"):
        LMDBDataset(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["numbered", "other keys", "subset"])
def test_threads_get_the_records_they_ask_for(tmp_path: Path, kind: str) -> None:
    count = 200
    name = "{:08d}" if kind != "other keys" else "key{:05d}"
    values = np.arange(count, dtype=np.float32)
    write_lmdb(tmp_path / "db", ((name.format(i), encode_datum(v.reshape(1, 1, 1), i)) for i, v in enumerate(values)))
    if kind == "subset":
        write_index_file(tmp_path / "subset", tmp_path / "db", np.arange(count)[::-1], np.arange(count))
    dataset = LMDBDataset(tmp_path / ("subset" if kind == "subset" else "db"))

    def wrong(seed: int) -> int:
        asked = np.random.default_rng(seed).integers(0, count, 3000).tolist()
        expected = [count - 1 - i if kind == "subset" else i for i in asked]
        return sum(
            (label, float(image)) != (i, record)
            for i, record, (image, label) in zip(asked, expected, map(dataset.__getitem__, asked), strict=True)
        )

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(wrong, range(4))) == [0, 0, 0, 0]
    finally:
        sys.setswitchinterval(interval)


def test_a_record_that_a_writer_may_have_torn_is_read_again(database: Path, images: np.ndarray) -> None:
    dataset = LMDBDataset(database)
    before = dataset[3]
    append(database, b"zz", commits=3, value=encode_datum(images[0], 77))
    with pytest.warns(UserWarning, match="another process has written to it"):
        image, label = dataset[3]
    assert (image.equal(before[0]), label) == (True, before[1])
    assert dataset[len(dataset) - 1][1] == 77
