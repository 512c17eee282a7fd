"""Legacy inputs to an Input layer."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_message, parse_net, read_net
from tests.proto.upgrade.v0_text import V0_DATA


def test_inputs_without_sizes_are_removed() -> None:
    net = parse_net('input: "data" layer { name: "r" }')
    assert [layer.name for layer in net.layer] == ["r"]
    assert not net.input


def test_an_input_without_sizes_that_a_layer_takes_is_named() -> None:
    text = 'input: "a"\nlayer { name: "e" bottom: "a" }'
    with pytest.raises(ProtoError) as caught:
        parse_net(text, "net.prototxt")
    assert str(caught.value) == (
        'net.prototxt:2: layer "e": takes the net\'s input "a", which has no sizes; add input_shape { dim: ... } '
        'behind input: "a", once for each input'
    )
    assert len(parse_net(text + 'layer { name: "d" top: "a" }').layer) == 2
    assert len(read_net(parse_message(text, caffe_pb2.NetParameter())).layer) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('input: "more"', ": 2 input(s) need 8 input_dim entries; there are 4"),
        ("input: 'more' input_shape { }", ": 2 input(s) need 2 input_shape entries; there are 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*dropped")
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ProtoError) as caught:
        parse_net(V0_DATA + text, "net.prototxt")
    assert str(caught.value).startswith(f"net.prototxt{message}")


def shapes(text: str) -> tuple[str, list[str], list[list[int]]]:
    """The name, tops and shapes of the first layer."""
    layer = parse_net(text).layer[0]
    return layer.type, list(layer.top), [list(shape.dim) for shape in layer.input_param.shape]


def test_sizes_of_four_numbers_each() -> None:
    text = 'input: "a" input: "b" input_dim: [1, 2, 3, 4] input_dim: [5, 6, 7, 8] layer { name: "r" }'
    assert shapes(text) == ("Input", ["a", "b"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    net = parse_net(text)
    assert [layer.name for layer in net.layer] == ["input", "r"]
    assert not net.input
    assert not net.input_dim


def test_shapes() -> None:
    text = 'input: "a" input: "b" input_shape { dim: 2 } input_shape { dim: [3, 4, 5, 6, 7] }'
    assert shapes(text) == ("Input", ["a", "b"], [[2], [3, 4, 5, 6, 7]])
