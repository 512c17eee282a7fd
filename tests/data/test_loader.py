import json
import threading
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from caffe_compat.data import Loader, Transformer
from caffe_compat.errors import DataError
from tests.data.conftest import COUNT, SHAPE

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@pytest.mark.parametrize("device", DEVICES)
def test_epochs(database: Path, images: np.ndarray, device: str) -> None:
    with Loader(database, 4, device=device) as loader:
        assert loader.shape == (4, *SHAPE)
        assert len(loader) == 3
        first, second = list(loader), list(loader)
    assert [b.label.tolist() for b in first] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert second[0].label.tolist() == [2, 3, 4, 5]
    assert first[0].label.dtype == torch.int64
    assert (first[1].data.cpu().numpy() == images[4:8]).all()


@pytest.mark.parametrize("device", DEVICES)
def test_equals_the_transformer_and_resumes(database: Path, images: np.ndarray, device: str) -> None:
    def transformer() -> Transformer:
        return Transformer(crop_size=8, mirror=True, mean_value=[1.5, 2, 3], scale=0.1)

    plain = transformer()
    plain.start_random(4)
    with Loader(database, 4, transformer(), device=device, seed=4) as loader:
        got = [loader.next_batch()]
        state = json.loads(json.dumps(loader.state()))
        got += [loader.next_batch() for _ in range(4)]
        expected = np.stack([plain(images[i % COUNT]) for i in range(20)])
        assert (torch.cat([b.data for b in got]).cpu().numpy() == expected).all()
        loader.load_state(state)
        assert all(torch.equal(loader.next_batch().data, batch.data) for batch in got[1:])


def test_shards_cover_everything(database: Path) -> None:
    loaders = [Loader(database, 5, rank=rank, rank_count=2) for rank in range(2)]
    assert sorted(i for loader in loaders for batch in loader for i in batch.label.tolist()) == list(range(COUNT))
    for loader in loaders:
        loader.close()


def test_bad_records_raise_or_are_counted(database: Path) -> None:
    with lmdb.open(str(database)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"00000002_image2", b"\x08")
    with Loader(database, 4) as loader, pytest.raises(DataError, match=r"00000002_image2"):
        loader.next_batch()
    with Loader(database, 4, skip_bad_records=1) as loader:
        assert loader.next_batch().label.tolist() == [0, 1, 3, 4]
        assert loader.bad_records == 1


def test_no_threads_are_left(database: Path) -> None:
    before = threading.active_count()
    with Loader(database, 4) as loader:
        loader.next_batch()
        assert threading.active_count() > before
    assert threading.active_count() == before
