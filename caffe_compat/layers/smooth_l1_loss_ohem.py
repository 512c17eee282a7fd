"""SmoothL1LossOHEM: SmoothL1Loss that also tells the loss of each region (R-FCN)."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.loss import normalization_mode, random_normalization


class _SmoothTerms(torch.autograd.Function):
    """The terms of weights * (data - target); R-FCN's gradient leaves out the weights that are neither 0 nor 1."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        difference = data - target
        difference = difference if weights is None else weights * difference
        ctx.save_for_backward(difference)
        size = difference.abs()
        return torch.where(size < 1, 0.5 * difference.square(), size - 0.5)

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, Tensor, None]:
        (difference,) = ctx.saved_tensors
        slope = top_diffs[0] * difference.clamp(-1, 1)
        return slope, -slope, None


@register("SmoothL1LossOHEM")
class SmoothL1LossOHEM(Layer):
    """Bottoms prediction (N, K, ...), target and optionally weights, as many values each -> scalar loss, and
    optionally the loss of each place, (N, 1, H, W).

    d^2 / 2 for |d| < 1, else |d| - 1/2, of d = weight * (prediction - target), summed and divided by what
    ``loss_param`` says: N (BATCH_SIZE), N H W (FULL, VALID), 1 (NONE) or pre_fixed_normalizer (PRE_FIXED), at least 1.
    The gradient is that of d itself, without the weight, as in R-FCN; only the first top hands one down.
    """

    param_fields = ("loss_param",)
    fork_fields = ("loss_param.normalization: PRE_FIXED", "loss_param.pre_fixed_normalizer")
    bottom_count = (2, 3)
    top_count = (1, 2)
    is_loss = True
    keeps_forward = True
    no_gradient_bottoms = (2,)
    graph_safe = True

    def setup(self, *bottoms: Shape) -> None:
        loss_param = self.param.loss_param
        self.mode, self.fixed = normalization_mode(loss_param), float(loss_param.pre_fixed_normalizer)

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        data = (*bottoms[0], 1, 1, 1)[:4]
        if not bottoms[0] or any((*shape, 1, 1, 1)[:4] != data for shape in bottoms):
            self.fail(
                f"bottoms have shapes {', '.join(map(str, bottoms))}; expected the same shape (N, K, ...) for each"
            )
        return [(), (data[0], 1, *data[2:])][: self.num_tops]

    def forward(self, data: Tensor, target: Tensor, *weights: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        own = weights[0].detach().reshape(data.shape) if weights else None
        terms = _SmoothTerms.apply(data, target.reshape(data.shape), own)
        items, places = data.shape[0], count(data.shape, 2)
        sizes = {"BATCH_SIZE": items, "NONE": 1, "PRE_FIXED": self.fixed}
        loss = terms.sum() / max(1.0, sizes.get(self.mode, items * places))
        if self.num_tops == 1:
            return loss  # type: ignore[no-any-return]
        shape = (items, 1, *(*data.shape, 1, 1, 1)[2:4])
        return loss, terms.detach().reshape(items, -1, places).sum(1).reshape(shape)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.pick((dice.integer(1, 5), dice.integer(1, 8)), dice.image())
        bottoms = [2 * dice.normal(*shape), dice.normal(*shape), dice.indices(2, *shape)][: dice.integer(2, 3)]
        mode = dice.pick(
            random_normalization(dice), f"normalization: PRE_FIXED pre_fixed_normalizer: {dice.number(0, 9)}"
        )
        return Example(f"loss_param {{ {mode} }}", bottoms, tops=dice.integer(1, 2))
