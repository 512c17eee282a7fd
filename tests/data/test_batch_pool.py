"""Batches that are made once: the same ones that each layer would make, wherever it stands."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.data.batch_pool import BatchPool
from caffe_compat.data.layers.data import Data
from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.proto import parse_net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 9, 8), dtype=np.uint8)
    write_lmdb(tmp_path / "db", ((f"{i}", encode_datum(image, i)) for i, image in enumerate(images)))
    return tmp_path


def make(folder: Path, transform: str = "random_seed: 5", seed: int = 1) -> SourceLayer:
    text = (
        f'layer {{ name: "data" type: "Data" top: "data" top: "label" data_param {{ source: "{folder / "db"}" '
        f"batch_size: 4 backend: LMDB }} transform_param {{ crop_size: 7 mirror: true {transform} }} }}"
    )
    with random.scope(seed):
        net = Net(parse_net(text), phase="TRAIN")
    (layer,) = net.sources()
    assert isinstance(layer, Data)
    return layer


def counted(layer: SourceLayer) -> list[int]:
    """How many batches the layer makes itself, as a list that grows."""
    made, own = list[int](), layer.make_batch

    def make_batch() -> tuple[torch.Tensor, ...]:
        made.append(len(made))
        return own()

    layer.make_batch = make_batch  # type: ignore[method-assign]
    return made


def same(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_one_makes_what_all_are_about_to_make(folder: Path) -> None:
    alone, layers, pool = make(folder), [make(folder, seed=seed) for seed in (1, 2, 3)], BatchPool()
    made = [counted(layer) for layer in layers]
    assert all(pool.add(layer) for layer in layers)
    for _ in range(6):
        expected = alone.next_batch()
        for layer in layers:
            assert same(layer.next_batch(), expected)
    assert [len(one) for one in made] == [6, 0, 0]
    assert all(layer.source_state() == alone.source_state() for layer in layers)


def test_one_goes_on_for_another_that_has_ended(folder: Path) -> None:
    alone, layers, pool = make(folder), [make(folder), make(folder)], BatchPool()
    made = [counted(layer) for layer in layers]
    for layer in layers:
        pool.add(layer)
    for number in range(6):
        expected = alone.next_batch()
        for layer in layers[number >= 2 :]:
            assert same(layer.next_batch(), expected)
    assert [len(one) for one in made] == [2, 4]


def test_one_that_stands_elsewhere_makes_its_own(folder: Path) -> None:
    """As after a resume; where it meets the others, it takes theirs again."""
    alone, layers, pool = make(folder), [make(folder), make(folder)], BatchPool()
    for layer in layers:
        pool.add(layer)
    batches, states = [], []
    for _ in range(8):
        states.append(alone.source_state())
        batches.append(alone.next_batch())
    layers[1].load_source_state(states[3])
    made = [counted(layer) for layer in layers]
    for number in range(2):
        assert same(layers[0].next_batch(), batches[number])
        assert same(layers[1].next_batch(), batches[3 + number])
    layers[0].load_source_state(states[5])
    for number in (5, 6):
        for layer in layers:
            assert same(layer.next_batch(), batches[number])
    assert [len(one) for one in made] == [4, 2]


@pytest.mark.parametrize("other", ["random_seed: 6", "random_seed: 5 scale: 2", "", "random_seed: 5 mean_value: 3"])
def test_others_are_not_taken_for_the_same(folder: Path, other: str) -> None:
    one, another, pool = make(folder), make(folder, other, seed=2), BatchPool()
    alone = make(folder, other, seed=2)
    for layer in (one, another):
        pool.add(layer)
    for _ in range(3):
        one.next_batch()
        assert same(another.next_batch(), alone.next_batch())


def test_the_mean_counts_and_not_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks' folders may give different files by one name."""
    from caffe_compat.data import write_mean

    pool, layers, expected = BatchPool(), [], []
    for number in range(2):
        own = folder / f"{number}"
        own.mkdir()
        write_mean(own / "mean.binaryproto", np.full((3, 9, 8), number, np.float32))
        monkeypatch.chdir(own)
        layers.append(make(folder, 'random_seed: 5 mean_file: "mean.binaryproto"'))
        expected.append(make(folder, 'random_seed: 5 mean_file: "mean.binaryproto"').next_batch())
        pool.add(layers[number])
    assert [same(layer.next_batch(), batch) for layer, batch in zip(layers, expected, strict=True)] == [True, True]
    assert not same(*expected)
