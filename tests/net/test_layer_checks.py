"""Checks of a layer before it is set up."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format

from caffe_compat import Net, NetError, ProtoError
from caffe_compat.layers.base import Layer
from caffe_compat.net.layer_checks import (
    check_blob_counts,
    check_fork_fields,
    check_layers,
    read_known_net,
    warn_unread_fields,
)
from caffe_compat.proto import Source, caffe_pb2, extend_schema, parse_net
from tests.net.prototxt import DATA, net


def test_unknown_types_are_all_named() -> None:
    text = (
        DATA
        + 'layer { name: "a" type: "Foo" bottom: "data" top: "a" }'
        + 'layer { name: "b" type: "Rellu" bottom: "a" top: "b" }'
    )
    with pytest.raises(NetError) as caught:
        net(text)
    assert str(caught.value) == (
        '<message>: 2 layer(s) of unknown type: of no fork known here: "Foo" (layer "a"), "Rellu" (layer "b"; did '
        'you mean ReLU?). Register your own with @caffe_compat.register("Type"), or use a Python layer'
    )


def test_field_of_another_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r'layer "r" \(ReLU\): field pooling_param has no effect'):
        net(DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" pooling_param { kernel_size: 2 } }')


def layer_of(bottoms: tuple[int, int | None], tops: tuple[int, int | None], equal: bool = False) -> Layer:
    class Any(Layer):
        type = "Any"
        bottom_count = bottoms
        top_count = tops
        equal_counts = equal

    return Any(caffe_pb2.LayerParameter(name="it"))


def test_a_type_of_a_fork_is_named() -> None:
    param = parse_net('layer { name: "a" type: "PriorBox" }')
    with pytest.raises(NetError, match=r'1 layer.* layer "a" has type "PriorBox" \(a layer of SSD\)'):
        check_layers(param, {}, Source())


EVERYTHING = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "f" type: "FixedNeuron" bottom: "data" top: "f" }
layer { name: "p" type: "DomainTransform" bottom: "f" top: "p" }
layer { name: "q" type: "DomainTransform" bottom: "f" top: "q" }
layer { name: "a" type: "FcRistretto" bottom: "data" top: "a" }
layer { name: "h" type: "Rellu" bottom: "data" top: "h" }
layer { name: "d" type: "Softmax" bottom: "data" top: "d" softmax_param { hard_ratio: 0.5 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 1 hole: 2 } }
"""


def test_one_refusal_names_all_types_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(EVERYTHING)
    with pytest.raises(NetError) as caught:
        Net(path)
    assert str(caught.value) == (
        f'{path}: 5 layer(s) of unknown type: of DeePhi (Xilinx) Caffe: "FixedNeuron" (layer "f" at line 3); '
        'of DeepLab: "DomainTransform" (layer "p" at line 4, layer "q" at line 5); '
        'of Ristretto: "FcRistretto" (layer "a" at line 6; write "InnerProduct"); '
        'of no fork known here: "Rellu" (layer "h" at line 7; did you mean ReLU?); '
        "2 field(s) of forks that no layer of ours reads: "
        'of caffe-windows: "softmax_param.hard_ratio" (layer "d" at line 8); '
        'of DeepLab: "convolution_param.hole" (layer "c" at line 9; write dilation). '
        'Register your own with @caffe_compat.register("Type"), or use a Python layer; '
        "remove such a field, or register a layer type of your own that reads it"
    )


def test_names_that_are_unknown_are_listed_with_the_types(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    odd = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r"\n fixed_param { a: { b: [1, 2] } }\n nosuch: 3 }\n'
    path.write_text(EVERYTHING + "trt_param { }\n" + odd)
    with pytest.raises(ProtoError) as caught:
        Net(path)
    said = str(caught.value)
    for part in (
        f'{path}: fields and values that are unknown here: of no fork known here: "trt_param" of NetParameter (line 10',
        'of DeePhi (Xilinx) Caffe: "fixed_param" of LayerParameter (line 12). 5 layer(s) of unknown type: of DeePhi',
        '"nosuch" of LayerParameter (line 13)',
        "2 field(s) of forks that no layer of ours reads: of caffe-windows",
    ):
        assert part in said
    assert said.endswith("for fields of a fork pass its caffe.proto with --schema")


def test_unknown_names_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(DATA + "layer { pooling_param { pool: FOO } }\nlayer { nosuch: 3 }")
    with pytest.raises(ProtoError) as caught:
        read_known_net(path)
    lines = DATA.count("\n") + 1
    assert str(caught.value) == (
        f"{path}: 2 fields and values that are unknown here: of no fork known here: value FOO of "
        f'PoolingParameter.PoolMethod (line {lines}), "nosuch" of LayerParameter (line {lines + 1}); for those of a '
        "fork pass its caffe.proto with --schema, others are misspelt or in the wrong block"
    )


def test_known_types_pass() -> None:
    check_layers(parse_net('layer { type: "Any" } layer { type: "Any" }'), {"Any": Layer}, Source())


@pytest.mark.parametrize(
    ("bottoms", "tops", "equal", "message"),
    [
        (1, 2, False, ""),
        (3, 3, True, ""),
        (0, 1, False, r"has 0 bottom blob\(s\); Any takes at least 1"),
        (1, 4, False, r"has 4 top blob\(s\); Any takes 1 to 3"),
        (1, 0, False, r"has 0 top blob\(s\); Any takes 1 to 3"),
        (2, 1, True, "has 2 bottoms and 1 tops; Any makes one top for each bottom"),
    ],
)
def test_check_blob_counts(bottoms: int, tops: int, equal: bool, message: str) -> None:
    layer = layer_of((1, None), (1, 3), equal)
    if not message:
        check_blob_counts(layer, bottoms, tops)
        return
    with pytest.raises(NetError, match=message):
        check_blob_counts(layer, bottoms, tops)


def test_an_exact_count() -> None:
    with pytest.raises(NetError, match=r"has 3 bottom blob\(s\); Any takes exactly 2"):
        check_blob_counts(layer_of((2, 2), (1, 1)), 3, 1)


def test_fields_that_the_type_reads_draw_no_warning() -> None:
    class Reads(Layer):
        type = "Reads"
        param_fields = ("relu_param",)

    layer = Reads(text_format.Parse('name: "it" relu_param { negative_slope: 1 }', caffe_pb2.LayerParameter()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_unread_fields(layer)
    layer.param.lrn_param.SetInParent()
    with pytest.warns(UserWarning, match="field lrn_param has no effect on a Reads layer"):
        warn_unread_fields(layer)


FORK = """
message LayerParameter { optional bool frozen = 999; optional EmptyParameter empty_param = 998; }
message EmptyParameter { }
message PoolingParameter { enum PoolMethod { SUM = 7; } }
message DropoutParameter { optional bool my_mode = 999 [default = true]; }
message ParamSpec { optional int32 group = 1000; }
"""


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[None]:
    """A fork's fields, as --schema adds them, for one test."""
    before = caffe_pb2.current_schema()
    (tmp_path / "fork.proto").write_text(FORK)
    extend_schema(tmp_path / "fork.proto")
    yield
    caffe_pb2.use_schema(before)


def one_layer(fields: str) -> Any:
    shape = "input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }"
    return net(f'input: "x" {shape} layer {{ name: "l" bottom: "x" top: "y" {fields} }}')


POOL = 'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 '


@pytest.mark.parametrize(("mode", "size"), [("ceil_mode: false", 3), ("ceil_mode: true", 4), ("", 4)])
def test_ceil_mode_is_honoured(mode: str, size: int, fork: None) -> None:
    pooled = one_layer(POOL + mode + "}")
    x = torch.arange(128.0).reshape(1, 2, 8, 8)
    expected = torch.nn.functional.max_pool2d(x, 3, 2, ceil_mode=size == 4)
    assert pooled.blob_shapes["y"] == (1, 2, size, size)
    assert torch.equal(pooled(x=x)["y"], expected)
    # As round_mode, which Caffe has, says it.
    if mode:
        same = one_layer(POOL + f"round_mode: {'FLOOR' if size == 3 else 'CEIL'} }}")
        assert torch.equal(same(x=x)["y"], expected)


def test_ceil_mode_against_round_mode(fork: None) -> None:
    with pytest.raises(NetError, match="ceil_mode and round_mode contradict each other; remove one"):
        one_layer(POOL + "round_mode: FLOOR ceil_mode: true }")
    assert one_layer(POOL + "round_mode: FLOOR }").blob_shapes["y"] == (1, 2, 3, 3)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ('type: "Dropout" dropout_param { dropout_ratio: 0.5 my_mode: false }', "dropout_param.my_mode"),
        ('type: "ReLU" frozen: true', "frozen"),
        ('type: "Softmax" softmax_param { hard_ratio: 0.5 }', "softmax_param.hard_ratio"),
        ('type: "InnerProduct" inner_product_param { num_output: 2 } param { group: 1 }', "param.group"),
        ('type: "Pooling" pooling_param { pool: SUM kernel_size: 3 }', "pooling_param.pool: SUM"),
    ],
)
def test_other_fields_of_a_fork_are_refused_by_name(fields: str, name: str, fork: None) -> None:
    with pytest.raises(NetError) as caught:
        one_layer(fields)
    assert 'layer "l" (' in str(caught.value)
    assert f"): {name} is no field of Caffe 1.0 but of a fork or of --schema" in str(caught.value)


def test_a_message_of_a_fork_that_the_type_does_not_read_warns(fork: None) -> None:
    with pytest.warns(UserWarning, match=r"field empty_param has no effect on a ReLU layer"):
        one_layer('type: "ReLU" empty_param { }')


def test_a_layer_of_the_users_own_reads_what_it_likes(fork: None) -> None:
    class Own(Layer):
        type = "Own"

    Own.__module__ = "theirs"
    layer = Own(text_format.Parse('name: "l" type: "Own" frozen: true', caffe_pb2.LayerParameter()))
    check_fork_fields(layer)
