import json
import threading
import warnings
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch

from caffe_compat.data import Loader, Transformer, encode_image, write_lmdb
from caffe_compat.data.loader import DeviceStage
from caffe_compat.errors import DataError
from tests.data.conftest import COUNT, SHAPE
from tests.data.test_image_size import jpeg_head, png_head

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


def test_an_image_that_says_too_much_is_a_bad_record(tmp_path: Path) -> None:
    good = cv2.imencode(".png", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()
    files = [good, jpeg_head(65500, 65500), good, png_head(12000, 12000, 2), good]
    write_lmdb(tmp_path / "db", ((f"{i:08d}", encode_image(file, i)) for i, file in enumerate(files)))
    with Loader(tmp_path / "db", 3, skip_bad_records=2) as loader:
        batch = loader.next_batch()
        assert batch.label.tolist() == [0, 2, 4]
        assert (batch.data == 7).all()
        assert loader.bad_records == 2
    with Loader(tmp_path / "db", 3) as loader, pytest.raises(DataError, match=r"db: record '00000001': .*65500x65500"):
        loader.next_batch()


@pytest.mark.parametrize("batch_size", [-1, 0, 10**9])
def test_a_batch_that_no_blob_holds(database: Path, batch_size: int) -> None:
    with pytest.raises(DataError, match=rf"db: batch_size {batch_size} gives a batch of .*; expected 1 to 2147483647"):
        Loader(database, batch_size)


def test_the_mean_may_lie_in_memory_that_is_read_only() -> None:
    """A file's, for one; PyTorch warns where it takes such memory as it is."""
    stage = DeviceStage.__new__(DeviceStage)  # no stream: there may be no GPU
    stage._device, stage._mean, stage._mean_source = torch.device("cpu"), None, None  # noqa: SLF001
    mean = np.arange(3, dtype=np.float32)
    mean.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taken = stage._mean_on_device(mean)  # noqa: SLF001
    assert taken is not None
    assert taken.tolist() == [0, 1, 2]
    assert stage._mean_on_device(mean) is taken  # noqa: SLF001
    assert stage._mean_on_device(None) is None  # noqa: SLF001
