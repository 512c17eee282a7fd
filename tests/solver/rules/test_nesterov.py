"""Nesterov's accelerated gradient against its formula in scalars."""

from caffe_compat.solver import Nesterov
from tests.solver.rules.rule_cases import How, check_fused_equals_plain, check_ten_updates, in_all_ways, on_all_devices

SETTINGS = {"momentum": 0.9}


def scalar(g: float, h: list[float], t: int, lr: float) -> float:
    before = h[0]
    h[0] = 0.9 * h[0] + lr * g
    return 1.9 * h[0] - 0.9 * before


@in_all_ways
def test_ten_updates(how: How) -> None:
    check_ten_updates(Nesterov, SETTINGS, scalar, how)


@on_all_devices
def test_fused_equals_plain(device: str) -> None:
    check_fused_equals_plain(Nesterov, SETTINGS, device)
