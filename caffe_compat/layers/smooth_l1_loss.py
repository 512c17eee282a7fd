"""SmoothL1Loss: squared for small differences, absolute for large ones (Fast R-CNN, Girshick 2015)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.loss import normalization_mode


@register("SmoothL1Loss")
class SmoothL1Loss(Layer):
    """Bottoms prediction (N, ...) and target with as many values -> scalar; both receive a gradient.

    With s = ``smooth_l1_loss_param.sigma``: s^2 d^2 / 2 for |d| < 1 / s^2, else |d| - 1 / (2 s^2), summed and divided.
    Three forks have it, told apart by their bottoms and fields:

    - Fast and Faster R-CNN: with four bottoms d = inside weight * (prediction - target), and each term is multiplied by
      the outside weight; divided by N.
    - SSD: with three bottoms d = weight * (prediction - target); divided by N.
    - R-FCN: as SSD's, divided by what ``loss_param`` says where that is given: N (BATCH_SIZE), N H W (FULL, VALID), 1
      (NONE) or ``pre_fixed_normalizer`` (PRE_FIXED), at least 1; a second top (N, 1, H, W) has each location's sum.

    Weights receive no gradient.
    """

    param_fields = ("smooth_l1_loss_param", "loss_param")
    fork_fields = ("loss_param.normalization: PRE_FIXED", "loss_param.pre_fixed_normalizer")
    bottom_count = (2, 4)
    top_count = (1, 2)
    is_loss = True
    graph_safe = True
    keeps_forward = True

    def setup(self, *bottoms: Shape) -> None:
        self.sigma2 = float(self.param.smooth_l1_loss_param.sigma) ** 2
        if self.sigma2 <= 0:
            self.fail("smooth_l1_loss_param.sigma is 0; expected a number above 0")
        loss = self.param.loss_param
        self.mode = normalization_mode(loss) if self.param.HasField("loss_param") else "BATCH_SIZE"
        self.fixed = float(loss.pre_fixed_normalizer) if self.mode == "PRE_FIXED" else 1.0

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        data = bottoms[0]
        if not data or any(not shape or shape[0] != data[0] or count(shape) != count(data) for shape in bottoms):
            self.fail(f"bottoms have shapes {', '.join(map(str, bottoms))}; expected as many values and items in each")
        return [(), (data[0], 1, *data[2:])] if self.num_tops > 1 else [()]

    def forward(self, data: Tensor, target: Tensor, *weights: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        difference = data - target.reshape(data.shape)
        weights = tuple(weight.detach() for weight in weights)
        if weights:
            difference = weights[0].reshape(data.shape) * difference
        size = difference.abs()
        terms = torch.where(size < 1 / self.sigma2, 0.5 * self.sigma2 * difference.square(), size - 0.5 / self.sigma2)
        if len(weights) > 1:
            terms = weights[1].reshape(data.shape) * terms
        loss = terms.sum() / self._divisor(data)
        return (loss, terms.detach().sum(1, keepdim=True)) if self.num_tops > 1 else loss

    def _divisor(self, data: Tensor) -> float:
        items = data.shape[0]
        sizes = {"BATCH_SIZE": items, "NONE": 1, "PRE_FIXED": self.fixed}
        return max(1.0, sizes.get(self.mode, items * count(data.shape, 2)))

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        bottoms = [2 * dice.normal(*shape) for _ in range(dice.integer(2, 4))]
        loss = dice.pick("", "loss_param { normalization: FULL }", "loss_param { normalize: false }")
        return Example(f"smooth_l1_loss_param {{ sigma: {dice.number(0.5, 3)} }} {loss}", bottoms)
