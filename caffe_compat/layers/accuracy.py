"""Accuracy: the share of predictions whose label is among the top k."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices


@register("Accuracy")
class Accuracy(Layer):
    """Scores (N, C, ...) and labels (N, ...) -> scalar; a second top has the accuracy per class.

    A tie with the true class counts against it, so that constant scores are not "right".
    """

    param_fields = ("accuracy_param",)
    bottom_count = (2, 2)
    top_count = (1, 2)
    has_backward = False
    graph_safe = True
    drawing_kind = "loss"

    def setup(self, scores: Shape, labels: Shape) -> None:
        param = self.param.accuracy_param
        self.top_k, self.axis = int(param.top_k), int(param.axis)
        self.ignore_label = int(param.ignore_label) if param.HasField("ignore_label") else None

    def infer_shapes(self, scores: Shape, labels: Shape) -> list[Shape]:
        axis = self.canonical_axis(self.axis, len(scores), "accuracy_param.axis")
        expected = count(scores, 0, axis) * count(scores, axis + 1)
        if self.top_k * count(labels) > count(scores):
            self.fail(f"accuracy_param.top_k is {self.top_k}; there are only {scores[axis]} classes")
        if count(labels) != expected:
            self.fail(
                f"{count(labels)} labels (shape {labels}) for {expected} predictions "
                f"(shape {scores}, class axis {axis})"
            )
        return [(), (scores[axis],)][: self.num_tops]

    @torch.no_grad()
    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        axis = self.axis % scores.dim()
        outer, classes = count(scores.shape, 0, axis), scores.shape[axis]
        flat = scores.reshape(outer, classes, -1)
        flat_labels = labels.reshape(outer, -1)
        if self.ignore_label is None:
            counted = torch.ones_like(flat_labels, dtype=torch.bool)
        else:
            counted = flat_labels.long() != self.ignore_label
            flat_labels = torch.where(counted, flat_labels, torch.zeros_like(flat_labels))
        label = to_indices(self, flat_labels, classes, "label")
        own = flat.gather(1, label.unsqueeze(1))
        # The true class itself is one of those at least as good, hence <= rather than <.
        right = ((flat >= own).sum(1) <= self.top_k) & counted
        total = counted.sum().to(scores.dtype)
        accuracy = right.sum().to(scores.dtype) / total.clamp(min=1)
        if self.num_tops < 2:
            return accuracy
        seen = scores.new_zeros(classes).index_add_(0, label.flatten(), counted.flatten().to(scores.dtype))
        hits = scores.new_zeros(classes).index_add_(0, label.flatten(), right.flatten().to(scores.dtype))
        return accuracy, hits / seen.clamp(min=1)

    def index_limits(self, scores: Shape, labels: Shape) -> dict[int, int]:
        return {1: scores[self.axis % len(scores)]}

    def deploy_form(self) -> None:
        return None

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h = dice.integer(1, 4), dice.integer(2, 6), dice.integer(1, 3)
        ignore = f"ignore_label: {dice.integer(0, c - 1)}" if dice.integer(0, 1) else ""
        fields = f"accuracy_param {{ top_k: {dice.integer(1, c)} {ignore} }}"
        return Example(fields, [dice.normal(n, c, h), dice.indices(c, n, h)], tops=dice.integer(1, 2))
