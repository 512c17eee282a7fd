from collections.abc import Iterator

import pytest
import torch

from caffe_compat import random
from caffe_compat.errors import NetError
from caffe_compat.layers.dummy_data import DummyData
from tests.layers.harness import make_layer

THREE_TOPS = 'top: "a" top: "b" top: "c"'
SHAPES = "shape { dim: 2 dim: 5 } shape { dim: 3 } shape { dim: 2 dim: 2 }"


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    with random.scope():
        yield


def make_dummy(fields: str, tops: str = 'top: "a"') -> DummyData:
    return make_layer(DummyData, f"{tops} dummy_data_param {{ {fields} }}")


def test_constants_stay_and_random_tops_are_refilled_in_order() -> None:
    fillers = 'data_filler { type: "gaussian" std: 2 } data_filler { value: 4 } data_filler { type: "uniform" }'
    layer = make_dummy(SHAPES + fillers, THREE_TOPS)
    random.set_seed(5)
    stream = random.CaffeGenerator(5)
    batches = [layer.next_batch(), layer.next_batch()]
    for gaussian, constant, uniform in batches:
        assert torch.equal(gaussian, torch.from_numpy(stream.gaussian((2, 5), 0, 2, "float64")))
        assert constant.tolist() == [4, 4, 4]
        assert torch.equal(uniform, torch.from_numpy(stream.uniform((2, 2), 0, 1, "float64")))


def test_setup_draws_nothing() -> None:
    random.set_seed(5)
    make_dummy('shape { dim: 9 } data_filler { type: "gaussian" }')
    assert random.generator().raw() == random.CaffeGenerator(5).raw()


@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        ("shape { dim: 2 dim: 3 }", [(2, 3)] * 3),
        (SHAPES, [(2, 5), (3,), (2, 2)]),
        ("num: 2 channels: 1 height: 3 width: 4", [(2, 1, 3, 4)] * 3),
        ("num: 2 channels: 1 channels: 2 channels: 3 height: 3 width: 4", [(2, 1, 3, 4), (2, 2, 3, 4), (2, 3, 3, 4)]),
    ],
)
def test_shapes(fields: str, shapes: list[tuple[int, ...]]) -> None:
    layer = make_dummy(fields, THREE_TOPS)
    assert layer.infer_shapes() == shapes
    values = layer.next_batch()
    assert [tuple(value.shape) for value in values] == shapes
    assert not any(value.any() for value in values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "shape is given 0 times; expected 1 or 3"),
        ("shape { dim: 1 } shape { dim: 1 }", "shape is given 2 times"),
        ("shape { dim: -1 }", "cannot be negative"),
        ("num: 1 channels: 1 height: 1", "width is given 0 times"),
        ("num: 1 shape { dim: 1 }", "both shape and num"),
        ("shape { dim: 1 } data_filler { } data_filler { }", "data_filler is given 2 times"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=rf'layer "it" \(DummyData\): .*{message}'):
        make_dummy(fields, THREE_TOPS)
