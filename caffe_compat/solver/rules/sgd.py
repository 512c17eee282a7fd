"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from caffe_compat.solver.rules.base import Rule


class SGD(Rule):
    """v = momentum * v + rate * g;  w -= v.  The rate is inside v, unlike in torch.optim.SGD:
    when it drops, what v has gathered keeps its size.
    """

    type = "SGD"
    rate_in_history = True

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.0, **shared: Any) -> None:
        super().__init__(params, lr, momentum=momentum, **shared)

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        (velocity,) = histories
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, grads, alpha=rate)
        return velocity
