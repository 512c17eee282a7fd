"""RMSProp against its formula in scalars."""

import math

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import RMSProp
from tests.solver.rules.rule_cases import (
    How,
    check_fused_equals_plain,
    check_ten_updates,
    in_all_ways,
    on_all_devices,
    parameter,
)

SETTINGS = {"rms_decay": 0.95, "delta": 1e-4}


def scalar(g: float, h: list[float], t: int, lr: float) -> float:
    h[0] = 0.95 * h[0] + 0.05 * g * g
    return lr * g / (math.sqrt(h[0]) + 1e-4)


@in_all_ways
def test_ten_updates(how: How) -> None:
    check_ten_updates(RMSProp, SETTINGS, scalar, how)


@on_all_devices
def test_fused_equals_plain(device: str) -> None:
    check_fused_equals_plain(RMSProp, SETTINGS, device)


@pytest.mark.parametrize("rms_decay", [1.0, -0.1])
def test_rms_decay_has_a_range(rms_decay: float) -> None:
    with pytest.raises(SolverError, match=rf"rms_decay is {rms_decay:g}; expected at least 0 and below 1 for RMSProp"):
        RMSProp([parameter(1.0)], lr=0.1, rms_decay=rms_decay)


def test_takes_no_momentum() -> None:
    with pytest.raises(SolverError, match="RMSProp has no setting momentum; it has rms_decay, delta"):
        RMSProp([parameter(1.0)], lr=0.1, momentum=0.9)
