"""Batches made on the device: with a stand-in for the device's part, and itself where CUDA is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from caffe_compat.data import encode_datum, loader, write_lmdb
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.device_source import DeviceSource
from caffe_compat.data.layers.data import Data
from caffe_compat.data.loader import Batch
from caffe_compat.proto import caffe_pb2, parse_message

LAYER = """name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.5 crop_size: 4 mirror: true }
data_param { source: "SOURCE" batch_size: 3 backend: LMDB }"""


class HostStage:
    """Where ``DeviceStage`` would be: the same batches, left on the host."""

    waited: ClassVar[int] = 0

    def __init__(self, device: torch.device, depth: int) -> None:
        pass

    def __call__(self, source: DatabaseSource) -> tuple[Batch, "HostStage"]:
        images, labels = source.read()
        return Batch(torch.from_numpy(source.maker.transform(images)), torch.from_numpy(labels).long()), self

    def synchronize(self) -> None:
        HostStage.waited += 1


@pytest.fixture
def make_layer(tmp_path: Path) -> Iterator[Callable[..., Data]]:
    rng = np.random.default_rng(0)
    write_lmdb(tmp_path / "db", ((f"{i:03d}", encode_datum(rng.integers(0, 256, (3, 6, 6), dtype=np.uint8), label=i))
                                 for i in range(7)))  # fmt: skip
    made = []

    def make(device: torch.device | None = None) -> Data:
        from caffe_compat import random

        random.set_seed(4)
        layer = Data(parse_message(LAYER.replace("SOURCE", str(tmp_path / "db")), caffe_pb2.LayerParameter()))
        layer.setup()
        if device is not None:
            assert layer.make_batches_on(device)
            assert isinstance(layer.source, DeviceSource)
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.close()


@pytest.fixture(params=["stand-in", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    if request.param == "stand-in":
        monkeypatch.setattr("caffe_compat.data.device_source.DeviceStage", HostStage)
        monkeypatch.setattr(HostStage, "waited", 0)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert vars(loader)["DeviceStage"] is not HostStage
    return torch.device("cuda")


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...], device: torch.device) -> None:
    for ours, theirs in zip(a, b, strict=True):
        assert theirs.device.type == device.type
        assert theirs.dtype == torch.float32
        assert torch.equal(ours, theirs.cpu())


def test_same_batches_as_on_the_host(make_layer: Callable[..., Data], device: torch.device) -> None:
    host = make_layer()
    expected = [host.next_batch() for _ in range(5)]
    layer = make_layer(device)
    for batch in expected:
        same(batch, layer.next_batch(), device)
    if device.type == "cpu":
        assert HostStage.waited >= 5, "a batch is handed out when it is complete"


def test_position_is_that_of_the_batches_handed_out(make_layer: Callable[..., Data], device: torch.device) -> None:
    host = make_layer()
    expected = [host.next_batch() for _ in range(5)]
    layer = make_layer(device)
    for _ in range(2):
        layer.next_batch()
    other = make_layer(device)
    other.load_source_state(layer.source_state())
    for batch in expected[2:]:
        same(batch, other.next_batch(), device)


def test_other_sources_stay_as_they_are(make_layer: Callable[..., Data]) -> None:
    layer = make_layer()
    layer.prefetch_depth = 0  # no thread that could wait for the device
    source = layer.source
    assert not layer.make_batches_on(torch.device("cuda"))
    assert layer.source is source
