"""Displays: when they fall due and what they say."""

import io

import pytest
import torch

from caffe_compat.net import Net
from caffe_compat.proto import parse_net
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log
from caffe_compat.solver.display import Display
from tests.solver.conftest import messages


def test_when_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(
        parse_net(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
            'layer { name: "s" type: "Reduction" bottom: "x" top: "s" loss_weight: 0.5 }'
        )
    )
    clock = iter([100.0, 101.0, 105.0, 107.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    stream = io.StringIO()
    display = Display(SolverParameter(display=10), net, Log(stream))
    assert [i for i in range(25) if display.is_due(i)] == [0, 10, 20]
    display.restart(4)
    outputs = {"s": torch.tensor(3.0)}
    display.show(10, 2.5, outputs)
    display.show(20, 2.25, outputs)
    assert messages(stream) == [
        "Iteration 10 (1.5 iter/s, 4s/10 iters), loss = 2.5",
        "    Train net output #0: s = 3 (* 0.5 = 1.5 loss)",
        "Iteration 20 (5 iter/s, 2s/10 iters), loss = 2.25",
        "    Train net output #0: s = 3 (* 0.5 = 1.5 loss)",
    ]


def test_never_without_an_interval() -> None:
    net = Net(parse_net('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }'))
    assert not Display(SolverParameter(), net, Log()).is_due(0)
