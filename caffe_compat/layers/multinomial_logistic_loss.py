"""MultinomialLogisticLoss: -log of the label's probability, from probabilities."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.loss import check_same_batch

LOG_THRESHOLD = 1e-20  # Caffe's floor under a probability


class _FlooredLog(torch.autograd.Function):
    """log(max(p, LOG_THRESHOLD)); below the threshold the slope goes on as 1 / LOG_THRESHOLD, as in Caffe."""

    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        floored = p.clamp(min=LOG_THRESHOLD)
        ctx.save_for_backward(floored)
        return floored.log()

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> Tensor:
        (floored,) = ctx.saved_tensors
        bottom_diff: Tensor = top_diffs[0] / floored
        return bottom_diff


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Layer):
    """Probabilities (N, C, ...) and labels (N,) -> scalar, the mean over N."""

    bottom_count = (2, 2)
    is_loss = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    graph_safe = True

    def infer_shapes(self, probabilities: Shape, labels: Shape) -> list[Shape]:
        check_same_batch(self, probabilities, labels)
        if count(labels, 1) != 1:
            self.fail(f"labels have shape {labels}; expected one per item, (N,) or (N, 1, 1, 1)")
        return [()]

    def forward(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        flat = probabilities.reshape(probabilities.shape[0], -1)
        label = to_indices(self, labels, flat.shape[1], "label").reshape(-1, 1)
        top: Tensor = -_FlooredLog.apply(flat.gather(1, label)).sum() / flat.shape[0]
        return top

    def index_limits(self, probabilities: Shape, labels: Shape) -> dict[int, int]:
        return {1: count(probabilities, 1)}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c = dice.integer(1, 5), dice.integer(2, 5)
        return Example("", [dice.probabilities(n, c), dice.indices(c, n)])
