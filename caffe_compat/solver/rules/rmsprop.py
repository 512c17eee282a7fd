"""RMSProp."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.solver.rules.base import Rule


class RMSProp(Rule):
    """h = rms_decay * h + (1 - rms_decay) * g^2;  w -= rate * g / (sqrt(h) + delta).  Takes no momentum."""

    type = "RMSProp"

    def __init__(
        self, params: Iterable[Any], lr: float, rms_decay: float = 0.99, delta: float = 1e-8, **shared: Any
    ) -> None:
        if not 0 <= rms_decay < 1:
            raise SolverError(f"rms_decay is {rms_decay:g}; expected at least 0 and below 1")
        super().__init__(params, lr, rms_decay=rms_decay, delta=delta, **shared)

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        (squares,) = histories
        decay = group["rms_decay"]
        torch._foreach_mul_(squares, decay)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - decay)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["delta"])
        torch._foreach_div_(grads, scales)
        torch._foreach_mul_(grads, rate)
        return grads
