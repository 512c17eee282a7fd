"""The logarithmic loss of a softmax as Caffe computes it, for all the loss layers that rest on it."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Caffe floors probabilities at the smallest normal float before the logarithm.
LOG_FLT_MIN = float(torch.log(torch.tensor(torch.finfo(torch.float32).tiny, dtype=torch.float64)))


def floored_log_loss(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """-log(max(p, FLT_MIN)) of the labels' probabilities, times ``weights``: (outer, inner).

    ``scores`` (outer, classes, inner), before the softmax; ``labels`` (outer, inner) int64; ``weights`` (outer, inner),
    0 for places that do not count.  The gradient is weight * (p - onehot), floored or not, as in Caffe.
    """
    losses: Tensor = _FlooredLogLoss.apply(scores, labels, weights)
    return losses


class _FlooredLogLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        log_p = functional.log_softmax(scores, 1)
        ctx.save_for_backward(log_p, labels, weights)
        picked = log_p.gather(1, labels.unsqueeze(1)).squeeze(1)
        return -picked.clamp(min=LOG_FLT_MIN) * weights

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None, None]:
        log_p, labels, weights = ctx.saved_tensors
        weight = (top_diffs[0] * weights).unsqueeze(1)
        diff = log_p.exp() * weight
        return diff.scatter_add_(1, labels.unsqueeze(1), -weight), None, None
