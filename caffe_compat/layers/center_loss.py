"""CenterLoss: features pulled to a learned centre of their class (Wen et al. 2016)."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.loss import check_same_batch


class _CenterLoss(torch.autograd.Function):
    """Features (M, K), centres (N, K), labels (M,) -> scalar.  The centres' gradient is not the loss': for each class
    the sum of (centre - feature) over 1 + the number of its features, whatever the loss' own diff is."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
        distance = features - centers[labels]
        ctx.save_for_backward(distance, labels)
        ctx.centers_shape = centers.shape
        return distance.square().sum() / (2 * features.shape[0])

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, Tensor, None]:
        distance, labels = ctx.saved_tensors
        sums = distance.new_zeros(ctx.centers_shape).index_add(0, labels, distance)
        counts = distance.new_zeros(ctx.centers_shape[0]).index_add(0, labels, torch.ones_like(distance[:, 0]))
        return distance * (top_diffs[0] / distance.shape[0]), -sums / (1 + counts).unsqueeze(1), None


@register("CenterLoss")
class CenterLoss(Layer):
    """Features (M, ...) and labels (M,) -> scalar, sum |x - c_label|^2 / 2 M.  Blob: centres (num_output, K), K the
    values of a feature from ``axis`` on."""

    param_fields = ("center_loss_param",)
    bottom_count = (2, 2)
    is_loss = True
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    forced_bottoms = (1,)
    graph_safe = True
    drawing_kind = "weights"

    def setup(self, features: Shape, labels: Shape) -> None:
        param = self.param.center_loss_param
        self.num_output = int(param.num_output)
        if self.num_output < 1:
            self.fail("center_loss_param.num_output is missing or 0; expected at least 1, the number of classes")
        if param.distance_type != "L2":
            self.fail(f'center_loss_param.distance_type is "{param.distance_type}"; expected "L2"')
        self.axis = self.canonical_axis(param.axis, len(features), "center_loss_param.axis")
        shape = (self.num_output, count(features, self.axis))
        self.add_blob("centers", shape, lambda t: fill(t, param.center_filler))

    def infer_shapes(self, features: Shape, labels: Shape) -> list[Shape]:
        check_same_batch(self, features, labels)
        if count(labels) != features[0] or count(features) != features[0] * self.blob_shapes[0][1]:
            self.fail(
                f"bottoms have shapes {features} and {labels}; expected {self.blob_shapes[0][1]} values and one label "
                "for each of the batch"
            )
        return [()]

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        rows = to_indices(self, labels, self.num_output, "label").flatten()
        loss: Tensor = _CenterLoss.apply(features.flatten(1), self.blob(0), rows)
        return loss

    def index_limits(self, features: Shape, labels: Shape) -> dict[int, int]:
        return {1: self.num_output}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        classes, n = dice.integer(1, 4), dice.integer(1, 5)
        fields = f"center_loss_param {{ num_output: {classes} }}"
        return Example(fields, [dice.normal(n, *dice.shape(1, 2)), dice.indices(classes, n)])
