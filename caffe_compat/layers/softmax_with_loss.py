"""SoftmaxWithLoss: multinomial logistic loss of the softmax of the bottom."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.log_loss import floored_log_loss
from caffe_compat.layers.shared.loss import check_same_batch, normalization_mode, normalizer, random_normalization


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Layer):
    """Scores (N, C, ...) and labels (N, ...) -> scalar loss.  ``loss_param``: ignore_label,
    normalization; ``softmax_param``: axis.

    SegNet's ``weight_by_label_freqs`` multiplies each loss by its label's ``class_weighting``; the normaliser does not
    count weights.
    """

    param_fields = ("loss_param", "softmax_param")
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
        self.ignore_label = int(loss_param.ignore_label) if loss_param.HasField("ignore_label") else None
        self.mode = normalization_mode(loss_param)
        weights = torch.tensor(list(loss_param.class_weighting), dtype=self.context.dtype)
        weighted = bool(loss_param.weight_by_label_freqs)
        if len(weights) and not weighted:
            self.warn("loss_param.class_weighting has no effect without weight_by_label_freqs: true, as in SegNet")
        self.register_buffer("class_weights", weights if weighted else None, persistent=False)

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
            self.fail(
                f"{len(self.class_weights)} loss_param.class_weighting for {scores[axis]} classes; expected one each"
            )
        return [()]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
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
        label = to_indices(self, flat_labels, classes, "label")
        weights = counted if self.class_weights is None else counted * self.class_weights.to(counted.dtype)[label]
        losses = floored_log_loss(flat, label, weights)
        top: Tensor = losses.sum() / normalizer(self.mode, outer, inner, counted.sum())
        return top

    def index_limits(self, scores: Shape, labels: Shape) -> dict[int, int]:
        return {1: scores[self.axis % len(scores)]}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h = dice.integer(1, 4), dice.integer(2, 6), dice.integer(1, 3)
        ignore = f"ignore_label: {dice.integer(0, c - 1)}" if dice.integer(0, 1) else ""
        fields = f"loss_param {{ {random_normalization(dice)} {ignore} }}"
        return Example(fields, [dice.normal(n, c, h), dice.indices(c, n, h)])
