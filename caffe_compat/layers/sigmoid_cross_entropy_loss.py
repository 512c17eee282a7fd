"""SigmoidCrossEntropyLoss: independent yes-or-no targets, from scores before the sigmoid."""

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.loss import check_same_batch, normalization_mode, normalizer, random_normalization
from caffe_compat.proto import caffe_pb2


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Layer):
    """Scores (N, ...) and targets in [0, 1], as many -> scalar.

    Without ``loss_param.normalization`` the sum is divided by N.
    """

    param_fields = ("loss_param",)
    bottom_count = (2, 2)
    is_loss = True
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    graph_safe = True

    def setup(self, scores: Shape, targets: Shape) -> None:
        param = self.param.loss_param
        given = param.HasField("normalization") or param.HasField("normalize")
        self.mode = normalization_mode(param) if given else "BATCH_SIZE"
        self.ignore_label = int(param.ignore_label) if param.HasField("ignore_label") else None

    def infer_shapes(self, scores: Shape, targets: Shape) -> list[Shape]:
        check_same_batch(self, scores, targets)
        if count(scores) != count(targets):
            self.fail(f"scores have shape {scores}, targets {targets}; expected as many of each")
        return [()]

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        target = targets.detach().reshape(scores.shape)
        losses = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
        if self.ignore_label is None:
            valid = scores.new_full((), scores.numel())
        else:
            counted = target.trunc() != self.ignore_label
            losses = torch.where(counted, losses, torch.zeros_like(losses))
            valid = counted.sum().to(scores.dtype)
        outer = scores.shape[0]
        return losses.sum() / normalizer(self.mode, outer, count(scores.shape, 1), valid)

    def deploy_form(self) -> caffe_pb2.LayerParameter:
        return caffe_pb2.LayerParameter(name="prob", type="Sigmoid", bottom=self.param.bottom[:1], top=["prob"])

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        ignore = "ignore_label: 1" if dice.integer(0, 1) else ""
        fields = f"loss_param {{ {random_normalization(dice)} {ignore} }}"
        return Example(fields, [dice.normal(*shape), dice.indices(2, *shape)])
