"""Stochastic gradient descent with momentum."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.registry import register_rule
from caffe_compat.solver.rules.setting import Setting


@register_rule("SGD")
class SGD(Rule):
    """v = momentum * v + rate * g;  w -= v.  The rate is inside v, unlike in torch.optim.SGD:
    when it drops, what v has gathered keeps its size.
    """

    settings = (Setting("momentum", 0.0),)
    kernel = "SGD"
    rate_in_history = True

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        (velocity,) = histories
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, grads, alpha=rate)
        return velocity
