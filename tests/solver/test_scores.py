"""Names of the numbers in a net's outputs."""

import torch

from caffe_compat.net import Net
from caffe_compat.proto import parse_net
from caffe_compat.solver import Score
from caffe_compat.solver.scores import make_scores, score_names

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "s" type: "Reduction" bottom: "x" top: "s" loss_weight: 0.5 }
layer { name: "y" type: "Power" bottom: "x" top: "y" }
"""


def test_one_name_for_every_number() -> None:
    net = Net(parse_net(NET))
    outputs = net(x=torch.tensor([[1.0, 2.0]]))
    assert score_names(net, outputs) == [("s", 0.5), ("y", 0.0), ("y", 0.0)]
    assert make_scores(net, outputs, [3.0, 1.0, 2.0]) == [Score("s", 3.0, 0.5), Score("y", 1.0), Score("y", 2.0)]
    assert score_names(net, {"y": outputs["y"]}) == [("y", 0.0), ("y", 0.0)]
