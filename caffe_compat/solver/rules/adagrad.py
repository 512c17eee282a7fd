"""AdaGrad."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.registry import register_rule
from caffe_compat.solver.rules.setting import Setting


@register_rule("AdaGrad")
class AdaGrad(Rule):
    """h += g^2;  w -= rate * g / (sqrt(h) + delta).  Takes no momentum."""

    settings = (Setting("delta", 1e-8),)
    refused = ("momentum",)
    kernel = "AdaGrad"

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        (squares,) = histories
        torch._foreach_addcmul_(squares, grads, grads)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["delta"])
        torch._foreach_div_(grads, scales)
        torch._foreach_mul_(grads, rate)
        return grads
