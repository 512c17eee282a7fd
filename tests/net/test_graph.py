"""Layers connected: blobs, sharing, who gets gradients."""

import pytest
import torch

from caffe_compat import NetError
from tests.net.prototxt import DATA, LABEL, LOSS, RELU, conv, ip, net


def test_frozen_layers_need_no_gradient() -> None:
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    n = net(DATA + LABEL + conv("c1", "data", param=frozen) + RELU + ip("fc", "c1") + LOSS)
    assert [p.requires_grad for p in n.parameters()] == [False, False, True, True]
    _, loss = n.forward_with_loss(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    loss.backward()
    assert n.layers["c1"].weight.grad is None


def test_propagate_down_false_stops_the_gradient() -> None:
    text = DATA + LABEL + conv("c1", "data") + ip("fc", "c1") + LOSS
    n = net(text.replace('bottom: "c1" top: "fc"', 'bottom: "c1" propagate_down: false top: "fc"'))
    _, loss = n.forward_with_loss(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    loss.backward()
    assert n.layers["c1"].weight.grad is None
    assert n.layers["fc"].weight.grad is not None


def test_sharing_by_name() -> None:
    shared = 'param { name: "w" lr_mult: 3 } param { name: "b" }'
    two = DATA.replace('"in"', '"in2"').replace('"data"', '"data2"')
    text = DATA + two + conv("c1", "data", param=shared) + conv("c2", "data2", param=shared)
    n = net(text)
    assert n.layers["c1"].weight is n.layers["c2"].weight
    assert [(p.layer, p.index, p.lr_mult) for p in n.learnable] == [("c1", 0, 3.0), ("c1", 1, 1.0)]
    with pytest.raises(NetError, match="lr_mult 5"):
        net(text.replace('c2" param { name: "w" lr_mult: 3 }', 'c2" param { name: "w" lr_mult: 5 }'))
    with pytest.raises(NetError, match="cannot share"):
        net(text.replace("num_output: 4", "num_output: 6", 1))
