"""Split layers: names, order, loss weights."""

import pytest

from caffe_compat import NetError
from caffe_compat.net.splits import insert_splits
from caffe_compat.proto import Source, caffe_pb2, parse_net

DATA = 'layer { name: "in" type: "Input" top: "x" top: "y" }\n'


def layer(name: str, bottoms: str, tops: str, fields: str = "") -> str:
    """A layer; ``bottoms`` and ``tops`` are names with spaces between."""
    blobs = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "Any" {" ".join(blobs)} {fields} }}\n'


def split(text: str) -> tuple[caffe_pb2.NetParameter, list[tuple[str, list[str], list[str]]]]:
    """The net with Splits, and (name, bottoms, tops) of each layer."""
    net = insert_splits(parse_net(text), Source("net.prototxt", text))
    return net, [(layer.name, list(layer.bottom), list(layer.top)) for layer in net.layer]


def test_one_reader_needs_none() -> None:
    text = DATA + layer("a", "x", "a") + layer("b", "a y", "b")
    assert insert_splits(parse_net(text), Source()) == parse_net(text)


def test_names_are_blob_layer_top_index() -> None:
    text = DATA + layer("a", "y", "a") + layer("b", "y", "b") + layer("c", "x y", "c")
    assert split(text)[1] == [
        ("in", [], ["x", "y"]),
        ("y_in_1_split", ["y"], ["y_in_1_split_0", "y_in_1_split_1", "y_in_1_split_2"]),
        ("a", ["y_in_1_split_0"], ["a"]),
        ("b", ["y_in_1_split_1"], ["b"]),
        ("c", ["x", "y_in_1_split_2"], ["c"]),
    ]


def test_a_layer_may_read_a_blob_twice() -> None:
    assert split(DATA + layer("a", "x x", "a"))[1][1:] == [
        ("x_in_0_split", ["x"], ["x_in_0_split_0", "x_in_0_split_1"]),
        ("a", ["x_in_0_split_0", "x_in_0_split_1"], ["a"]),
    ]


def test_in_place_readers_belong_to_the_blob_before_them() -> None:
    """``x`` is read once as the data's, by relu, and twice as relu's."""
    text = DATA + layer("relu", "x", "x") + layer("a", "x", "a") + layer("b", "x", "b")
    assert split(text)[1][1:] == [
        ("relu", ["x"], ["x"]),
        ("x_relu_0_split", ["x"], ["x_relu_0_split_0", "x_relu_0_split_1"]),
        ("a", ["x_relu_0_split_0"], ["a"]),
        ("b", ["x_relu_0_split_1"], ["b"]),
    ]


def test_a_loss_counts_as_a_reader_and_its_weight_moves_to_the_split() -> None:
    net, layers = split(DATA + layer("a", "x", "a", "loss_weight: 3") + layer("b", "a", "b"))
    assert layers[2:] == [
        ("a_a_0_split", ["a"], ["a_a_0_split_0", "a_a_0_split_1"]),
        ("b", ["a_a_0_split_1"], ["b"]),
    ]
    assert list(net.layer[1].loss_weight) == []
    assert list(net.layer[2].loss_weight) == [3, 0]


def test_a_loss_that_nobody_else_reads_keeps_its_weight() -> None:
    net, layers = split(DATA + layer("a", "x", "a", "loss_weight: 3"))
    assert len(layers) == 2
    assert list(net.layer[1].loss_weight) == [3]


def test_the_net_given_stays_as_it_was() -> None:
    net = parse_net(DATA + layer("a", "x x", "a"))
    before = str(net)
    insert_splits(net, Source())
    assert str(net) == before


def test_an_unknown_bottom_is_refused() -> None:
    with pytest.raises(NetError) as caught:
        split(DATA + layer("a", "x z", "a"))
    assert str(caught.value) == (
        'net.prototxt:2: layer "a" (Any): unknown bottom blob "z" (bottom 1); blobs made before this layer: x, y'
    )
