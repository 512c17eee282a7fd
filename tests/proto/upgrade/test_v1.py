"""V1 nets to the current form."""

import pytest
from google.protobuf import text_format

from caffe_compat.errors import ProtoError
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import caffe_pb2, parse_net, read_net
from caffe_compat.proto.schema import load_caffe_schema
from caffe_compat.proto.upgrade import v1


def test_every_v1_field_has_a_counterpart() -> None:
    ours = {f.name for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields}
    v1_fields = {f.name for f in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields}
    assert v1_fields - ours == {"layer", "blob_share_mode", "blobs_lr", "weight_decay"}


def test_v1_type_of_a_fork_is_refused() -> None:
    net = caffe_pb2.NetParameter()
    net.layers.add(name="s", type=caffe_pb2.V1LayerParameter.SPLIT)
    assert read_net(net).layer[0].type == "Split"
    net.ParseFromString(b"\x12\x03\x28\xe8\x07")  # layers { type: 1000 }: unknown to protobuf, so no type
    assert not read_net(net).layer[0].HasField("type")


def test_refuses_blocks_of_both_forms() -> None:
    with pytest.raises(ProtoError, match=r"^net\.prototxt: has both old 'layers' and new 'layer' blocks"):
        parse_net("layers { type: RELU } layer { }", "net.prototxt")


def test_parameters_of_layers_by_index() -> None:
    text = """layers { type: INNER_PRODUCT name: "ip" bottom: "x" top: "y" loss_weight: 2 exclude { phase: TEST }
        param: "w" blobs_lr: 1 blobs_lr: 2 weight_decay: 0.5 blob_share_mode: PERMISSIVE
        inner_product_param { num_output: 3 } }"""
    (layer,) = parse_net(text).layer
    expected = """type: "InnerProduct" name: "ip" bottom: "x" top: "y" loss_weight: 2 exclude { phase: TEST }
        param { name: "w" lr_mult: 1 decay_mult: 0.5 share_mode: PERMISSIVE } param { lr_mult: 2 }
        inner_product_param { num_output: 3 }"""
    assert layer == text_format.Parse(expected, caffe_pb2.LayerParameter())


@pytest.mark.parametrize(
    ("old", "new"), [("CONVOLUTION", "Convolution"), ("SOFTMAX_LOSS", "SoftmaxWithLoss"), ("LRN", "LRN"), ("NONE", "")]
)
def test_types(old: str, new: str) -> None:
    assert parse_net(f"layers {{ type: {old} }}").layer[0].type == new


def test_every_type_is_a_layer_of_ours() -> None:
    caffes = load_caffe_schema().names["V1LayerParameter"].LayerType.keys()
    assert {v1.TYPES[name] for name in caffes} - {""} <= set(layer_types())


def test_blobs_come_along() -> None:
    net = parse_net("layers { type: RELU blobs { data: [1, 2] } }")
    assert [list(blob.data) for blob in net.layer[0].blobs] == [[1, 2]]
