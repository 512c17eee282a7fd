"""SoftmaxWithLoss: multinomial logistic loss of the softmax of the bottom."""

import math

import torch
from torch import Tensor

from caffe_compat.errors import NetError, reading
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


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Layer):
    """Scores (N, C, ...) and labels (N, ...) -> scalar loss.  ``loss_param``: ignore_label,
    normalization; ``softmax_param``: axis.

    SegNet's ``weight_by_label_freqs`` multiplies each loss by its label's ``class_weighting``; the normaliser does not
    count weights.  DeepLab 1's ``softmaxloss_param``: any number of ``ignore_label``, and ``weight_source``, a file of
    weights of the classes; the loss is then divided by the sum of the weights of all labels that count.
    """

    param_fields = ("loss_param", "softmax_param", "softmaxloss_param")
    fork_fields = ("loss_param.weight_by_label_freqs", "loss_param.class_weighting")
    bottom_count = (2, 2)
    top_count = (1, 2)
    is_loss = True
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    constant_buffers = ("class_weights",)
    graph_safe = True

    class_weights: Tensor | None  # (C)

    def setup(self, scores: Shape, labels: Shape) -> None:
        if self.num_tops > 1:
            # Caffe's own second top never gets past a check of loss_weight in its inner Softmax.
            self.fail("a second top (the probabilities) is refused by Caffe 1.0 too; add a Softmax layer for them")
        loss_param = self.param.loss_param
        self.axis = int(self.param.softmax_param.axis)
        ignored = [loss_param.ignore_label] if loss_param.HasField("ignore_label") else []
        self.ignored = sorted({*map(int, ignored), *map(int, self.param.softmaxloss_param.ignore_label)})
        self.mode = normalization_mode(loss_param)
        self.by_weights = self.param.HasField("softmaxloss_param")
        weights = self._read_weights()
        tensor = None if weights is None else torch.tensor(weights, dtype=self.context.dtype)
        self.register_buffer("class_weights", tensor, persistent=False)

    def _read_weights(self) -> list[float] | None:
        loss_param, source = self.param.loss_param, self.param.softmaxloss_param.weight_source
        weighted = bool(loss_param.weight_by_label_freqs)
        if loss_param.class_weighting and not weighted:
            self.warn("loss_param.class_weighting has no effect without weight_by_label_freqs: true, as in SegNet")
        if not source:
            return list(loss_param.class_weighting) if weighted else None
        if weighted:
            self.fail(
                "has weight_by_label_freqs (SegNet) and softmaxloss_param.weight_source (DeepLab); keep one of them"
            )
        with reading(source, "a list of weights", NetError), open(source, encoding="utf-8") as file:
            weights = [float(word) for word in file.read().split()]
        if any(not 0 <= weight < math.inf for weight in weights):
            self.fail(f"{source}: has weights below 0, or not finite; expected at least 0")
        return weights

    def infer_shapes(self, scores: Shape, labels: Shape) -> list[Shape]:
        check_same_batch(self, scores, labels)
        axis = self.canonical_axis(self.axis, len(scores), "softmax_param.axis")
        expected = count(scores, 0, axis) * count(scores, axis + 1)
        if count(labels) != expected:
            self.fail(
                f"{count(labels)} labels (shape {labels}) for {expected} predictions (shape {scores}, "
                f"class axis {axis}); expected one label per prediction, from 0 to {scores[axis] - 1}"
            )
        if self.class_weights is not None and len(self.class_weights) != scores[axis]:
            self.fail(f"{len(self.class_weights)} class weights for {scores[axis]} classes; expected one for each")
        return [()]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        axis = self.axis % scores.dim()
        outer, classes = count(scores.shape, 0, axis), scores.shape[axis]
        flat = scores.reshape(outer, classes, -1)
        inner = flat.shape[2]
        flat_labels = labels.detach().reshape(outer, inner)
        counted = torch.ones_like(flat_labels, dtype=scores.dtype)
        if self.ignored:
            whole = flat_labels.long()
            ignored = torch.zeros_like(whole, dtype=torch.bool)
            for value in self.ignored:
                ignored |= whole == value
            counted = (~ignored).to(scores.dtype)
            flat_labels = torch.where(ignored, torch.zeros_like(flat_labels), flat_labels)
        label = to_indices(self, flat_labels, classes, "label")
        weights = counted if self.class_weights is None else counted * self.class_weights.to(counted.dtype)[label]
        losses = floored_log_loss(flat, label, weights)
        if self.by_weights:
            total = weights.sum()
            return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))
        top: Tensor = losses.sum() / normalizer(self.mode, outer, inner, counted.sum())
        return top

    def index_limits(self, scores: Shape, labels: Shape) -> dict[int, int]:
        return {1: scores[self.axis % len(scores)]}

    def deploy_form(self) -> caffe_pb2.LayerParameter:
        return deployed_softmax(self.param)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h = dice.integer(1, 4), dice.integer(2, 6), dice.integer(1, 3)
        ignore = f"ignore_label: {dice.integer(0, c - 1)}" if dice.integer(0, 1) else ""
        fields = f"loss_param {{ {random_normalization(dice)} {ignore} }}"
        return Example(fields, [dice.normal(n, c, h), dice.indices(c, n, h)])
