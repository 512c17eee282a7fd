"""AdaGrad against its formula in scalars."""

import math

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import AdaGrad
from tests.solver.rules.rule_cases import (
    How,
    check_fused_equals_plain,
    check_ten_updates,
    in_all_ways,
    on_all_devices,
    parameter,
)

SETTINGS = {"delta": 1e-4}


def scalar(g: float, h: list[float], t: int, lr: float) -> float:
    h[0] += g * g
    return lr * g / (math.sqrt(h[0]) + 1e-4)


@in_all_ways
def test_ten_updates(how: How) -> None:
    check_ten_updates(AdaGrad, SETTINGS, scalar, how)


@on_all_devices
def test_fused_equals_plain(device: str) -> None:
    check_fused_equals_plain(AdaGrad, SETTINGS, device)


def test_frozen_parameter_gathers_decay_in_adagrad() -> None:
    """Caffe adds the decayed weight's square to the history even where the rate is 0."""
    frozen = parameter(2.0)
    optimizer = AdaGrad([{"params": [frozen], "lr_mult": 0.0}], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert frozen.item() == 2.0
    assert optimizer.histories([frozen])[0].tolist() == [1.0]


def test_takes_no_momentum() -> None:
    with pytest.raises(SolverError, match="AdaGrad has no setting momentum; it has delta"):
        AdaGrad([parameter(1.0)], lr=0.1, momentum=0.9)
