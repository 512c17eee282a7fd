"""Stochastic gradient descent with momentum against its formula in scalars."""

import torch

from caffe_compat.solver import SGD
from tests.solver.rules.rule_cases import (
    How,
    check_fused_equals_plain,
    check_ten_updates,
    in_all_ways,
    on_all_devices,
    parameter,
)

SETTINGS = {"momentum": 0.9}


def scalar(g: float, h: list[float], t: int, lr: float) -> float:
    h[0] = 0.9 * h[0] + lr * g
    return h[0]


@in_all_ways
def test_ten_updates(how: How) -> None:
    check_ten_updates(SGD, SETTINGS, scalar, how)


@on_all_devices
def test_fused_equals_plain(device: str) -> None:
    check_fused_equals_plain(SGD, SETTINGS, device)


def test_rate_is_inside_the_history() -> None:
    p = parameter(0.0)
    optimizer = SGD([p], lr=1.0, momentum=0.5)
    p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert p.item() == -1.5  # the old velocity keeps its size though the rate is 0


def test_frozen_parameter_costs_no_history_in_sgd() -> None:
    frozen, trained = parameter(1.0), parameter(1.0)
    groups = [{"params": [frozen], "lr_mult": 0.0}, {"params": [trained]}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)
    trained.grad = torch.ones_like(trained)
    optimizer.step()
    assert frozen.item() == 1.0
    assert frozen not in optimizer.state
    assert optimizer.histories([frozen, trained])[0].tolist() == [0.0]
