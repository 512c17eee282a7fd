"""Adam against its formula in scalars."""

import math
from typing import Any

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import Adam
from tests.solver.rules.rule_cases import (
    How,
    check_fused_equals_plain,
    check_ten_updates,
    in_all_ways,
    on_all_devices,
    parameter,
)

SETTINGS = {"momentum": 0.9, "momentum2": 0.99, "delta": 1e-4}


def scalar(g: float, h: list[float], t: int, lr: float) -> float:
    h[0] = 0.9 * h[0] + 0.1 * g
    h[1] = 0.99 * h[1] + 0.01 * g * g
    correction = math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return lr * correction * h[0] / (math.sqrt(h[1]) + 1e-4)


@in_all_ways
def test_ten_updates(how: How) -> None:
    check_ten_updates(Adam, SETTINGS, scalar, how)


@on_all_devices
def test_fused_equals_plain(device: str) -> None:
    check_fused_equals_plain(Adam, SETTINGS, device)


@pytest.mark.parametrize("beta", ["momentum", "momentum2"])
def test_a_beta_of_1_is_refused(beta: str) -> None:
    settings: dict[str, Any] = {beta: 1.0}
    with pytest.raises(SolverError, match=f"{beta} is 1; expected at least 0 and below 1 for Adam"):
        Adam([parameter(1.0)], lr=0.1, **settings)


def test_defaults() -> None:
    group = Adam([parameter(1.0)], lr=0.1).param_groups[0]
    assert (group["momentum"], group["momentum2"], group["delta"]) == (0.9, 0.999, 1e-8)
