"""SoftmaxWithLossOHEM: SoftmaxWithLoss that also tells the loss of each item (R-FCN)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.log_loss import floored_log_loss
from caffe_compat.layers.shared.loss import (
    check_same_batch,
    deployed_softmax,
    normalization_mode,
    normalizer,
    random_normalization,
)
from caffe_compat.proto import caffe_pb2


@register("SoftmaxWithLossOHEM")
class SoftmaxWithLossOHEM(Layer):
    """Scores (N, C, ...) and labels (N, ...) -> scalar loss, then optionally the probabilities (N, C, ...) and the
    loss of each label, in the labels' shape, 0 for ``ignore_label``.

    ``loss_param``: ignore_label, normalization, also PRE_FIXED: divided by pre_fixed_normalizer, at least 1.  Only the
    first top hands a gradient down.
    """

    param_fields = ("loss_param", "softmax_param")
    fork_fields = ("loss_param.normalization: PRE_FIXED", "loss_param.pre_fixed_normalizer")
    bottom_count = (2, 2)
    top_count = (1, 3)
    is_loss = True
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    graph_safe = True

    def setup(self, scores: Shape, labels: Shape) -> None:
        loss_param = self.param.loss_param
        self.axis = int(self.param.softmax_param.axis)
        self.ignore_label = int(loss_param.ignore_label) if loss_param.HasField("ignore_label") else None
        self.mode, self.fixed = normalization_mode(loss_param), float(loss_param.pre_fixed_normalizer)

    def infer_shapes(self, scores: Shape, labels: Shape) -> list[Shape]:
        check_same_batch(self, scores, labels)
        axis = self.canonical_axis(self.axis, len(scores), "softmax_param.axis")
        expected = count(scores, 0, axis) * count(scores, axis + 1)
        if count(labels) != expected:
            self.fail(f"{count(labels)} labels (shape {labels}) for {expected} predictions (shape {scores})")
        return [(), scores, labels][: self.num_tops]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, ...]:
        axis = self.axis % scores.dim()
        outer, classes = count(scores.shape, 0, axis), scores.shape[axis]
        flat = scores.reshape(outer, classes, -1)
        inner = flat.shape[2]
        flat_labels = labels.detach().reshape(outer, inner)
        counted = torch.ones_like(flat_labels, dtype=scores.dtype)
        if self.ignore_label is not None:
            ignored = flat_labels.long() == self.ignore_label
            counted = (~ignored).to(scores.dtype)
            flat_labels = torch.where(ignored, torch.zeros_like(flat_labels), flat_labels)
        losses = floored_log_loss(flat, to_indices(self, flat_labels, classes, "label"), counted)
        if self.mode == "PRE_FIXED":
            loss = losses.sum() / max(1.0, self.fixed)
        else:
            loss = losses.sum() / normalizer(self.mode, outer, inner, counted.sum())
        if self.num_tops == 1:
            return loss
        return (loss, scores.detach().softmax(axis), losses.detach().reshape(labels.shape))[: self.num_tops]

    def index_limits(self, scores: Shape, labels: Shape) -> dict[int, int]:
        return {1: scores[self.axis % len(scores)]}

    def deploy_form(self) -> caffe_pb2.LayerParameter:
        return deployed_softmax(self.param)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h = dice.integer(1, 4), dice.integer(2, 6), dice.integer(1, 3)
        ignore = f"ignore_label: {dice.integer(0, c - 1)}" if dice.integer(0, 1) else ""
        mode = dice.pick(
            random_normalization(dice), f"normalization: PRE_FIXED pre_fixed_normalizer: {dice.number(0, 9)}"
        )
        fields = f"loss_param {{ {mode} {ignore} }}"
        return Example(fields, [dice.normal(n, c, h), dice.indices(c, n, h)], tops=dice.integer(1, 3))
