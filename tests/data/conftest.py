"""Small databases of noise, and layers without a net around them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat import extension, random
from caffe_compat.data import encode_datum, libc_random, write_lmdb
from caffe_compat.data.image_batch import PlainImageBatch
from caffe_compat.layers.base import Layer, LayerContext
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import parse_net

COUNT, SHAPE = 10, (3, 12, 14)


def noise_images(count: int = COUNT, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_images(path: Path, images: np.ndarray) -> Path:
    """An LMDB whose labels are the records' numbers."""
    write_lmdb(path, ((f"{i:08d}_image{i}", encode_datum(image, i)) for i, image in enumerate(images)))
    return path


def same(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> bool:
    """Whether two batches are equal."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def append(database: Path, *keys: bytes, commits: int = 1, value: bytes | None = None) -> None:
    """What another process does that writes records with py-lmdb, ``commits`` transactions for each."""
    script = f"""
import lmdb
with lmdb.open({str(database)!r}) as environment:
    for key in {keys!r} * {commits}:
        with environment.begin(write=True) as transaction:
            transaction.put(key, {value!r} or b"new " + key)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture(autouse=True)
def _own_random_streams() -> Iterator[None]:
    """A test may seed the process-wide streams; they are given back after it."""
    with random.scope(), libc_random.scope():
        yield


@pytest.fixture
def images() -> np.ndarray:
    return noise_images()


@pytest.fixture
def database(tmp_path: Path, images: np.ndarray) -> Path:
    return write_images(tmp_path / "db", images)


MakeLayer = Callable[..., Layer]


@pytest.fixture
def make_layer() -> Iterator[MakeLayer]:
    """``make_layer(prototxt of one layer, phase=..., ...)``, set up; closed at the end."""
    made: list[Layer] = []

    def make(text: str, **context: Any) -> Layer:
        param = parse_net(f"layer {{ name: 'd' {text} }}").layer[0]
        layer = layer_types()[param.type](param, LayerContext(**context))
        layer.setup()
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.close()


@pytest.fixture(params=["extension", "twin"])
def image_batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches made by the extension, and by its twin."""
    if request.param == "twin":
        monkeypatch.setattr("caffe_compat.data.batch.image_batch_type", lambda: PlainImageBatch)
    elif extension.load() is None:
        pytest.skip("compares with the extension")
