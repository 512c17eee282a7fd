"""Rate and update of an iteration, and the lines about them."""

import io
from typing import Never

import torch

from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import SGD, Log, Schedule
from caffe_compat.solver.train_step import TrainStep
from caffe_compat.solver.update import Update
from tests.solver.conftest import messages


class OnlyUpdates(TrainStep):
    def forward_backward(self, *, last: bool = True, display: bool = False) -> Never:
        raise AssertionError("an update makes no pass")


def test_rates_steps_and_clipping() -> None:
    stream, log = io.StringIO(), Log
    param = SolverParameter(base_lr=0.5, lr_policy="multistep", gamma=0.5, stepvalue=[1])
    weight = torch.nn.Parameter(torch.tensor([10.0, 10.0]))
    optimizer = SGD([weight], lr=0.0, clip_gradients=2.5)
    update, step = Update(Schedule(param), optimizer, log(stream)), OnlyUpdates(optimizer)
    weight.grad = torch.tensor([3.0, 4.0])
    update.make(step, 0, display=True)  # clipped to (1.5, 2)
    assert weight.tolist() == [9.25, 9.0]
    weight.grad = torch.tensor([1.0, 0.0])
    update.make(step, 1, display=False)
    assert weight.tolist() == [9.0, 9.0]
    assert [(group["lr"], group["iteration"]) for group in optimizer.param_groups] == [(0.25, 2)]
    assert messages(stream) == [
        "Iteration 0, lr = 0.5",
        "Gradient clipping: scaling down gradients (L2 norm 5 > 2.5) by scale factor 0.5",
        "MultiStep Status: Iteration 1, step = 1",
    ]


def test_the_rate_is_a_float32() -> None:
    param = SolverParameter(base_lr=0.1, lr_policy="exp", gamma=0.3)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = SGD([weight], lr=0.0)
    weight.grad = torch.ones(1)
    Update(Schedule(param), optimizer, Log(enabled=False)).make(OnlyUpdates(optimizer), 7, display=False)
    rate = optimizer.param_groups[0]["lr"]
    assert rate == float(torch.tensor(param.base_lr * param.gamma**7, dtype=torch.float32))
