"""SegAccuracy: how many pixels are right, per class and in all (DeepLab)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices


@register("SegAccuracy")
class SegAccuracy(Layer):
    """Scores (N, C, H, W) and labels (N, 1, H, W) -> (1, 1, 1, 3): the share of pixels that are right, the mean over
    the classes seen of each one's share (recall), and the mean over all classes of intersection over union.

    Pixels of an ``ignore_label`` do not count.  A class that is neither there nor predicted counts as 1
    in the last, as in DeepLab.  Of equal scores the higher class counts.  ``reset: false``: pixels are counted on from
    batch to batch.
    """

    param_fields = ("seg_accuracy_param",)
    bottom_count = (2, 2)
    has_backward = False
    drawing_kind = "loss"
    graph_safe = True

    counts: Tensor  # (C, C) int64: pixels by true and predicted class

    def setup(self, scores: Shape, labels: Shape) -> None:
        param = self.param.seg_accuracy_param
        if param.HasField("metric"):
            self.warn("seg_accuracy_param.metric has no effect, as in DeepLab: the top has all three")
        self.ignored, self.reset = sorted(set(map(int, param.ignore_label))), bool(param.reset)
        classes = scores[1] if len(scores) > 1 else 1
        self.register_buffer("counts", torch.zeros(classes, classes, dtype=torch.int64), persistent=False)

    def infer_shapes(self, scores: Shape, labels: Shape) -> list[Shape]:
        shapes = [(*shape, 1, 1, 1)[:4] for shape in (scores, labels)]
        if len(scores) < 2 or shapes[1] != (shapes[0][0], 1, *shapes[0][2:]):
            self.fail(f"scores have shape {scores}, labels {labels}; expected (N, C, H, W) and (N, 1, H, W)")
        return [(1, 1, 1, 3)]

    @torch.no_grad()
    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        classes = scores.shape[1]
        flat = labels.reshape(-1)
        whole = flat.long()
        counted = torch.ones_like(whole, dtype=torch.bool)
        for label in self.ignored:
            counted &= whole != label
        true = to_indices(self, torch.where(counted, flat, torch.zeros_like(flat)), classes, "label")
        # The last of the largest scores: a pair of score and class is compared.
        found = classes - 1 - scores.flip(1).argmax(1).reshape(-1)
        if self.reset:
            self.counts.zero_()
        self.counts.view(-1).scatter_add_(0, true * classes + found, counted.long())
        counts = self.counts.double()
        right, rows = counts.diagonal(), counts.sum(1)
        union = rows + counts.sum(0) - right
        seen = rows > 0
        recall = torch.where(seen, right / rows.clamp(min=1), 0).sum() / seen.sum().clamp(min=1)
        overlap = torch.where(right == union, 1, right / union.clamp(min=1)).mean()
        values = torch.stack((right.sum() / rows.sum().clamp(min=1), recall, overlap))
        return values.to(scores.dtype).view(1, 1, 1, 3)

    def index_limits(self, scores: Shape, labels: Shape) -> dict[int, int]:
        return {1: scores[1]}

    def deploy_form(self) -> None:
        return None

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h, w = dice.image(dice.integer(2, 5))
        ignore = " ".join(f"ignore_label: {label}" for label in range(dice.integer(0, 2)))
        return Example(f"seg_accuracy_param {{ {ignore} }}", [dice.normal(n, c, h, w), dice.indices(c, n, 1, h, w)])
