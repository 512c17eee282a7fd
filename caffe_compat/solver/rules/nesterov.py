"""Nesterov's accelerated gradient."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.registry import register_rule
from caffe_compat.solver.rules.setting import Setting


@register_rule("Nesterov")
class Nesterov(Rule):
    """v' = momentum * v + rate * g;  w -= (1 + momentum) * v' - momentum * v."""

    settings = (Setting("momentum", 0.0),)
    kernel = "Nesterov"
    rate_in_history = True

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        (velocity,) = histories
        momentum = group["momentum"]
        updates = torch._foreach_mul(velocity, -momentum)
        torch._foreach_mul_(velocity, momentum)
        torch._foreach_add_(velocity, grads, alpha=rate)
        torch._foreach_add_(updates, velocity, alpha=1 + momentum)
        return list(updates)
