"""Layers found in prototxt text."""

from caffe_compat.proto import Source, layer_lines

TEXT = """\
name: "net"  # layer { name: "comment" }
layer {
  param { name: "shared" }
  name: "a{"
  type: "Data" top: "name: }"
}
layer: <
  name : 'b'
>
layers { layer { name: "v0" type: "conv" blobs_lr: 1 } bottom: "x" }
layer { name: "a{" }
input_param { name: "no layer" }
"""


def test_layer_lines() -> None:
    assert layer_lines(TEXT) == {"a{": [2, 11], "b": [7], "v0": [10]}


def test_layer_lines_of_broken_text() -> None:
    assert layer_lines('}} layer { name: "x"') == {"x": [1]}
    assert layer_lines("") == {}


def test_source_names_a_layer() -> None:
    source = Source("net.prototxt", TEXT)
    assert source.layer("b") == 'net.prototxt:7: layer "b"'
    assert source.layer("a{") == 'net.prototxt: layer "a{"'  # two of that name: no line
    assert source.layer("data") == 'net.prototxt: layer "data"'
    assert Source("net.caffemodel").layer("b") == 'net.caffemodel: layer "b"'
