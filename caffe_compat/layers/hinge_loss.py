"""HingeLoss: one-versus-all margins of a linear classifier."""

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.loss import check_same_batch


@register("HingeLoss")
class HingeLoss(Layer):
    """Scores (N, C, ...) and labels (N,) -> scalar, the sum over classes of max(0, 1 - s x) (``norm: L2``:
    its square), over N; s is 1 for the label's class and -1 for others."""

    param_fields = ("hinge_loss_param",)
    bottom_count = (2, 2)
    is_loss = True
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    graph_safe = True

    def setup(self, scores: Shape, labels: Shape) -> None:
        param = self.param.hinge_loss_param
        self.squared = param.norm == param.L2

    def infer_shapes(self, scores: Shape, labels: Shape) -> list[Shape]:
        check_same_batch(self, scores, labels)
        return [()]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        flat = scores.reshape(scores.shape[0], -1)
        # Caffe reads the first N values, whatever the labels' shape.
        label = to_indices(self, labels.flatten()[: flat.shape[0]], flat.shape[1], "label")
        sign = torch.ones_like(flat).scatter(1, label.unsqueeze(1), -1.0)
        margins = functional.relu(1 + sign * flat)
        return (margins.square() if self.squared else margins).sum() / flat.shape[0]

    def index_limits(self, scores: Shape, labels: Shape) -> dict[int, int]:
        return {1: count(scores, 1)}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c = dice.integer(1, 5), dice.integer(2, 5)
        return Example(f"hinge_loss_param {{ norm: {dice.pick('L1', 'L2')} }}", [dice.normal(n, c), dice.indices(c, n)])
