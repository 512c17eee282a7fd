import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.input import Input
from tests.layers.harness import make_layer

TWO_TOPS = 'top: "a" top: "b"'


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("input_param { shape { dim: 2 dim: 3 } }", [(2, 3)]),
        (f"{TWO_TOPS} input_param {{ shape {{ dim: 2 }} shape {{ dim: 4 dim: 5 }} }}", [(2,), (4, 5)]),
        (f"{TWO_TOPS} input_param {{ shape {{ dim: 2 }} }}", [(2,), (2,)]),  # one for all
        (f"{TWO_TOPS} input_param {{ shape {{ }} }}", [(), ()]),
        (TWO_TOPS, [(0,), (0,)]),
    ],
)
def test_shapes(text: str, shapes: list[tuple[int, ...]]) -> None:
    assert make_layer(Input, text).infer_shapes() == shapes


def test_holds_zeros_until_somebody_writes() -> None:
    layer = make_layer(Input, "input_param { shape { dim: 2 dim: 2 } }")
    assert isinstance(layer, Input)
    (value,) = layer.next_batch()
    assert value.dtype == torch.float64
    assert value.tolist() == [[0, 0], [0, 0]]
    value[1, 0] = 5
    assert layer.next_batch()[0].tolist() == [[0, 0], [5, 0]], "what is written stays"
    assert layer.next_batch()[0] is value


def test_a_new_shape_starts_with_zeros() -> None:
    layer = make_layer(Input, "input_param { shape { dim: 3 } }")
    assert isinstance(layer, Input)
    layer.hold(0).fill_(1)
    assert layer.hold(0, (3,)).tolist() == [1, 1, 1]
    assert layer.hold(0, (2, 2)).tolist() == [[0, 0], [0, 0]]
    assert layer.hold(0).shape == (2, 2)
    assert layer.hold(0, ()).shape == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input_param { shape { dim: 1 } shape { dim: 1 } }", "shape is given 2 times; expected 0, 1 or 1"),
        ("input_param { shape { dim: 2 dim: -1 } }", r"shape is \(2, -1\); a dimension cannot be negative"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Input, text)
