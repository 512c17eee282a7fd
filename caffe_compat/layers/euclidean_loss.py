"""EuclideanLoss: half the squared distance of two bottoms, averaged over the batch."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.loss import check_same_batch


@register("EuclideanLoss")
class EuclideanLoss(Layer):
    """Bottoms (N, ...) and (N, ...) with as many values -> scalar; both receive a gradient."""

    bottom_count = (2, 2)
    is_loss = True
    graph_safe = True
    keeps_forward = True

    def infer_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        check_same_batch(self, a, b)
        if count(a, 1) != count(b, 1):
            self.fail(f"bottoms have shapes {a} and {b}; expected as many values per item")
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        return Example("", [dice.normal(*shape), dice.normal(*shape)])
