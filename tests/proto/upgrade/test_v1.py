"""V1 nets to the current form."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_net, read_net


def test_every_v1_field_has_a_counterpart():
    ours = {f.name for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields}
    v1_fields = {f.name for f in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields}
    assert v1_fields - ours == {"layer", "blob_share_mode", "blobs_lr", "weight_decay"}


def test_v1_type_of_a_fork_is_refused():
    net = caffe_pb2.NetParameter()
    net.layers.add(name="s", type=caffe_pb2.V1LayerParameter.SPLIT)
    assert read_net(net).layer[0].type == "Split"
    net.ParseFromString(b"\x12\x03\x28\xe8\x07")  # layers { type: 1000 }: unknown to protobuf, so no type
    assert not read_net(net).layer[0].HasField("type")


def test_refuses_blocks_of_both_forms():
    with pytest.raises(ProtoError, match=r"^net\.prototxt: has both old 'layers' and new 'layer' blocks"):
        parse_net("layers { type: RELU } layer { }", "net.prototxt")
