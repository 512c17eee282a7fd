"""Checks of a layer before it is set up."""

import warnings

import pytest
from google.protobuf import text_format

from caffe_compat import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.net.layer_checks import check_blob_counts, check_layer_types, warn_unread_fields
from caffe_compat.proto import Source, caffe_pb2, parse_net
from tests.net.prototxt import DATA, net


def test_unknown_types_are_all_named() -> None:
    text = (
        DATA
        + 'layer { name: "a" type: "Foo" bottom: "data" top: "a" }'
        + 'layer { name: "b" type: "Rellu" bottom: "a" top: "b" }'
    )
    with pytest.raises(NetError, match=r'2 layer.*"a" has type "Foo".*"b" has type "Rellu" \(did you mean ReLU'):
        net(text)


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
        check_layer_types(param, {}, Source())


def test_known_types_pass() -> None:
    check_layer_types(parse_net('layer { type: "Any" } layer { type: "Any" }'), {"Any": Layer}, Source())


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
