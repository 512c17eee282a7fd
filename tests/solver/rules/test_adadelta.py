"""AdaDelta against its formula in scalars."""

import math

from caffe_compat.solver import AdaDelta
from tests.solver.rules.rule_cases import How, check_fused_equals_plain, check_ten_updates, in_all_ways, on_all_devices

SETTINGS = {"momentum": 0.9, "delta": 1e-4}


def scalar(g: float, h: list[float], t: int, lr: float) -> float:
    h[0] = 0.9 * h[0] + 0.1 * g * g
    u = g * math.sqrt((h[1] + 1e-4) / (h[0] + 1e-4))
    h[1] = 0.9 * h[1] + 0.1 * u * u
    return lr * u


@in_all_ways
def test_ten_updates(how: How) -> None:
    check_ten_updates(AdaDelta, SETTINGS, scalar, how)


@on_all_devices
def test_fused_equals_plain(device: str) -> None:
    check_fused_equals_plain(AdaDelta, SETTINGS, device)
