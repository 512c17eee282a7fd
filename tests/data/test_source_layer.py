"""What all layers with batches made ahead share, with a source that counts."""

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.data.source_layer import SourceLayer, draw_as_thread_starts, errors_with_place, make_transformer
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.layers.base import LayerContext, Shape
from caffe_compat.proto import parse_net


class Counter:
    """Batches 0, 1, 2, ...; fails at ``broken``."""

    def __init__(self, broken: int = -1) -> None:
        self.number, self.broken, self.closed = 0, broken, 0

    def load(self) -> tuple[Tensor, Tensor]:
        if self.number == self.broken:
            raise DataError("broken")
        self.number += 1
        return torch.tensor([self.number - 1]), torch.tensor([-1])

    def state(self) -> dict[str, int]:
        return {"number": self.number}

    def set_state(self, state: dict[str, int]) -> None:
        self.number = state["number"]

    def close(self) -> None:
        self.closed += 1


class Counting(SourceLayer):
    source: Counter

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return [(1,)] * len(self.param.top)


@pytest.fixture
def make() -> Iterator[Callable[..., Counting]]:
    made = []

    def make_counting(broken: int = -1, ahead: int = 4, tops: str = "top: 'a' top: 'b'", **context: Any) -> Counting:
        param = parse_net(f"layer {{ name: 'counter' type: 'Data' {tops} }}").layer[0]
        layer = Counting(param, LayerContext(**context))
        layer.source, layer.prefetch_depth = Counter(broken), ahead
        made.append(layer)
        return layer

    yield make_counting
    for layer in made:
        layer.close()


def numbers(layer: Counting, count: int) -> list[int]:
    return [int(layer.next_batch()[0]) for _ in range(count)]


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_the_state_is_that_of_the_batches_handed_out(make: Callable[..., Counting], ahead: int) -> None:
    layer = make(ahead=ahead)
    assert layer.source_state() == {"number": 0}
    assert numbers(layer, 3) == [0, 1, 2]
    assert layer.source_state() == {"number": 3}
    layer.load_source_state({"number": 1})
    assert layer.source_state() == {"number": 1}
    assert numbers(layer, 2) == [1, 2]


def test_batches_have_the_nets_type_and_one_tensor_for_each_top(make: Callable[..., Counting]) -> None:
    layer = make(tops="top: 'a'", dtype=torch.float64)
    (batch,) = layer.next_batch()
    assert batch.dtype == torch.float64
    assert [len(layer()), len(make().next_batch())] == [1, 2]


@pytest.mark.parametrize("ahead", [0, 3])
def test_after_an_error_it_stays_where_it_was(make: Callable[..., Counting], ahead: int) -> None:
    layer = make(broken=2, ahead=ahead)
    assert numbers(layer, 2) == [0, 1]
    for _ in range(2):
        with pytest.raises(DataError, match="broken"):
            layer.next_batch()
    assert layer.source_state() == {"number": 2}
    layer.source.broken = -1
    assert numbers(layer, 2) == [2, 3]


def test_closing_ends_the_thread_and_the_next_batch_starts_it_again(make: Callable[..., Counting]) -> None:
    layer = make()
    numbers(layer, 2)
    assert any(thread.name == "prefetch counter" for thread in threading.enumerate())
    layer.close()
    assert not any(thread.name == "prefetch counter" for thread in threading.enumerate())
    assert layer.source.closed == 1
    assert numbers(layer, 1) == [2]


def test_a_pickled_layer_goes_on_after_the_batches_handed_out(make: Callable[..., Counting]) -> None:
    layer = make()
    numbers(layer, 3)
    state = layer.__getstate__()
    assert state["_prefetcher"] is None
    assert pickle.loads(pickle.dumps(state["_state"])) == {"number": 3}


def test_errors_get_the_layers_place(make: Callable[..., Counting]) -> None:
    layer = make()
    with pytest.raises(DataError, match=r'layer "counter" .*: gone'), errors_with_place(layer):
        raise DataError("gone")
    layer.param.transform_param.mean_file = "absent"
    with pytest.raises(DataError, match=r'layer "counter" .*: absent: no such mean file'):
        make_transformer(layer)


def test_draws_as_a_thread_starts() -> None:
    """One for the transformer where it is random, and one for the thread."""
    for transformer, draws in ((Transformer(mirror=True), 2), (Transformer(), 1)):
        with random.scope(6):
            draw_as_thread_starts(transformer)
            stream = random.CaffeGenerator(6)
            first = [stream.raw() for _ in range(draws)]
            assert random.generator().raw() == stream.raw()
            if transformer.random is not None:
                assert transformer.random.raw() == random.CaffeGenerator(first[0]).raw()
