"""ContrastiveLoss: similar pairs together, others a margin apart (Hadsell et al., CVPR 2006)."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.loss import check_same_batch

# Caffe adds this to the distance that it divides by in the gradient.
_DISTANCE_OFFSET = 1e-4


class _PairLoss(torch.autograd.Function):
    """Twice the loss of each pair (N,) from the differences (N, C), with Caffe's gradient."""

    @staticmethod
    def forward(ctx: Any, diff: Tensor, similar: Tensor, margin: float, legacy: bool) -> Tensor:
        squared = diff.square().sum(1)
        distance = squared.sqrt()
        missing = margin - (squared if legacy else distance)
        ctx.save_for_backward(diff, similar, distance, missing)
        ctx.legacy = legacy
        apart = missing.clamp(min=0)
        return torch.where(similar, squared, apart if legacy else apart.square())

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor | None, ...]:
        diff, similar, distance, missing = ctx.saved_tensors
        slope = torch.ones_like(missing) if ctx.legacy else missing / (distance + _DISTANCE_OFFSET)
        slope = torch.where(missing > 0, -slope, torch.zeros_like(slope))
        slope = torch.where(similar, torch.ones_like(slope), slope)
        return (2 * top_diffs[0] * slope).unsqueeze(1) * diff, None, None, None


@register("ContrastiveLoss")
class ContrastiveLoss(Layer):
    """Bottoms a (N, C), b (N, C) and similar (N,): 0 for pairs that belong apart -> scalar

    sum of d^2 for similar pairs and max(margin - d, 0)^2 for others (``legacy_version``:
    max(margin - d^2, 0)), over 2 N; d is the distance of a from b.
    """

    param_fields = ("contrastive_loss_param",)
    bottom_count = (3, 3)
    is_loss = True
    keeps_forward = True
    reads_again = (2,)
    no_gradient_bottoms = (2,)
    graph_safe = True

    def setup(self, a: Shape, b: Shape, similar: Shape) -> None:
        param = self.param.contrastive_loss_param
        self.margin, self.legacy = float(param.margin), bool(param.legacy_version)

    def infer_shapes(self, a: Shape, b: Shape, similar: Shape) -> list[Shape]:
        check_same_batch(self, a, b)
        check_same_batch(self, a, similar)
        if count(a, 1) != count(b, 1) or count(a, 2) != 1 or count(b, 2) != 1 or count(similar, 1) != 1:
            self.fail(f"bottoms have shapes {a}, {b} and {similar}; expected (N, C), (N, C) and (N,)")
        return [()]

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        flags = similar.detach().flatten().trunc() != 0
        diff = a.reshape(a.shape[0], -1) - b.reshape(b.shape[0], -1)
        top: Tensor = _PairLoss.apply(diff, flags, self.margin, self.legacy).sum() / (2 * a.shape[0])
        return top

    def index_limits(self, a: Shape, b: Shape, similar: Shape) -> dict[int, int]:
        return {2: 2}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c = dice.integer(1, 5), dice.integer(1, 5)
        fields = f"contrastive_loss_param {{ margin: {dice.number(0.5, 4)} legacy_version: {dice.switch()} }}"
        return Example(fields, [dice.normal(n, c), dice.normal(n, c), dice.indices(2, n)])
