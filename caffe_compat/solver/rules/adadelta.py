"""AdaDelta."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.registry import register_rule
from caffe_compat.solver.rules.setting import Setting


@register_rule("AdaDelta")
class AdaDelta(Rule):
    """h = m h + (1 - m) g^2;  u = g sqrt((d + delta) / (h + delta));  d = m d + (1 - m) u^2;  w -= rate * u.

    m is the solver's ``momentum``; h is history 0 and d history 1.
    """

    settings = (Setting("momentum", 0.0), Setting("delta", 1e-8))
    kernel = "AdaDelta"
    history_count = 2

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        squares, deltas = histories
        momentum, delta = group["momentum"], group["delta"]
        torch._foreach_mul_(squares, momentum)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - momentum)
        ratios = torch._foreach_add(deltas, delta)
        torch._foreach_div_(ratios, torch._foreach_add(squares, delta))
        torch._foreach_sqrt_(ratios)
        torch._foreach_mul_(grads, ratios)
        torch._foreach_mul_(deltas, momentum)
        torch._foreach_addcmul_(deltas, grads, grads, value=1 - momentum)
        torch._foreach_mul_(grads, rate)
        return grads
