"""Adam."""

import math
from typing import Any

import torch
from torch import Tensor

from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.registry import register_rule
from caffe_compat.solver.rules.setting import Setting


@register_rule("Adam")
class Adam(Rule):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w -= rate * c * m / (sqrt(v) + delta),

    with b1 = momentum, b2 = momentum2, c = sqrt(1 - b2^t) / (1 - b1^t) and t = iteration + 1.
    delta is added to the uncorrected root, unlike in torch.optim.Adam.  m is history 0, v history 1.
    """

    settings = (
        Setting("momentum", 0.9, least=0, below=1),
        Setting("momentum2", 0.999, least=0, below=1),
        Setting("delta", 1e-8),
    )
    kernel = "Adam"
    history_count = 2

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        means, squares = histories
        beta1, beta2 = group["momentum"], group["momentum2"]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, grads, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["delta"])
        updates = torch._foreach_div(means, scales)
        torch._foreach_mul_(updates, rate)
        return list(updates)

    def correct_rate(self, group: dict[str, Any]) -> float:
        """c of the formula."""
        t = group["iteration"] + 1
        result: float = math.sqrt(1 - group["momentum2"] ** t) / (1 - group["momentum"] ** t)
        return result
