"""Nets written in Python."""

import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, parse_net
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P

EXPECTED = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 2 dim: 1 dim: 6 dim: 6 } shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "ReLU1" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "score" type: "InnerProduct" bottom: "pool" top: "score" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 2 }
layer { name: "quiet" type: "Silence" bottom: "data" }
"""


def test_a_net_of_every_form() -> None:
    n = caffe.NetSpec()
    n.data, n.label = L.DummyData(shape=[{"dim": [2, 1, 6, 6]}, {"dim": 2}], ntop=2)
    n.conv = L.Convolution(
        n.data, kernel_size=3, num_output=4, weight_filler={"type": "xavier"}, param=[{"lr_mult": 1}, {"lr_mult": 2}]
    )
    n["pool"] = L.Pooling(n.conv, pooling_param={"pool": P.Pooling.AVE, "kernel_size": 2, "stride": 2})
    relu = L.ReLU(n["pool"], in_place=True)
    n.score = L.InnerProduct(relu, num_output=3)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_weight=2)
    n.quiet = L.Silence(n.data, ntop=0)
    assert n.to_proto() == parse_net(EXPECTED)
    Net(n.to_proto())


def test_names_that_nobody_gave() -> None:
    data = L.Input(shape={"dim": [1, 2]})
    first = L.InnerProduct(data, num_output=1)
    net = L.InnerProduct(first, num_output=1, name="mine").to_proto()
    assert [(layer.name, list(layer.top)) for layer in net.layer] == [
        ("Input1", ["Input1"]),
        ("InnerProduct1", ["InnerProduct1"]),
        ("mine", ["InnerProduct2"]),
    ]
    assert caffe.to_proto(first, data) == first.to_proto()


def test_a_net_deeper_than_pythons_stack() -> None:
    n = caffe.NetSpec()
    top = n.data = L.Input(shape={"dim": [1]})
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 3001


def test_what_is_refused() -> None:
    pair = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(pair, ntop=0)
    with pytest.raises(AttributeError, match="LayerParameter has no field 'kernel'"):
        L.Convolution(pair[0], kernel=3).to_proto()
    n = caffe.NetSpec()
    n.data = pair[0]
    with pytest.raises(AttributeError, match="no top 'nope'; there are data"):
        _ = n.nope
    with pytest.raises(KeyError, match="no top 'nope'"):
        _ = n["nope"]


def test_enum_values() -> None:
    assert (P.Pooling.MAX, P.Pooling.AVE, P.Eltwise.SUM) == (0, 1, 1)
    assert P.Data.LMDB == caffe_pb2.DataParameter.LMDB
