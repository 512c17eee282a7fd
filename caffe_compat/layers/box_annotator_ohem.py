"""BoxAnnotatorOHEM: keep the regions of each image with the largest losses (R-FCN's online hard example mining)."""

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

_ROI = 5  # image, x1, y1, x2, y2


@register("BoxAnnotatorOHEM")
class BoxAnnotatorOHEM(Layer):
    """Bottoms regions (N, 5, ...), their losses (N, 1, ...), labels (N, 1, ...) and weights (N, K, ...) -> labels
    (N, 1, H, W), ``ignore_label`` where a region is not kept, and weights (N, K, H, W), 0 there.

    Kept are the ``roi_per_img`` largest losses of each image; equal ones in their order.
    """

    param_fields = ("box_annotator_ohem_param",)
    bottom_count = (4, 4)
    top_count = (2, 2)
    has_backward = False
    graph_safe = True

    def setup(self, rois: Shape, losses: Shape, labels: Shape, weights: Shape) -> None:
        param = self.param.box_annotator_ohem_param
        self.most, self.ignore_label = int(param.roi_per_img), int(param.ignore_label)
        if self.most < 1:
            self.fail("box_annotator_ohem_param.roi_per_img is missing or 0; expected at least 1")

    def infer_shapes(self, rois: Shape, losses: Shape, labels: Shape, weights: Shape) -> list[Shape]:
        shapes = [(*shape, 1, 1, 1)[:4] for shape in (rois, losses, labels, weights)]
        number, channels, *places = shapes[0]
        if channels != _ROI:
            self.fail(f"regions have shape {rois}; expected (N, {_ROI}, ...): image, x1, y1, x2, y2")
        expected = [(number, k, *places) for k in (1, 1, shapes[3][1])]
        if shapes[1:] != expected:
            self.fail(
                f"losses have shape {losses}, labels {labels} and weights {weights}; expected {expected[0]} twice and "
                f"(N, K, H, W) with the same N, H and W, for regions {rois}"
            )
        return [expected[1], expected[2]]

    @torch.no_grad()
    def forward(self, rois: Tensor, losses: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        images = rois.reshape(len(rois), _ROI, -1)[:, 0].reshape(-1).long()
        order = torch.sort(losses.reshape(-1), descending=True, stable=True).indices
        groups = torch.sort(images[order], stable=True)
        # Each region's place among those of its image, the largest loss first.
        places = torch.arange(len(order), device=order.device) - torch.searchsorted(groups.values, groups.values)
        kept = torch.empty_like(places, dtype=torch.bool).scatter_(0, order[groups.indices], places < self.most)
        shapes = self.infer_shapes(*(tuple(bottom.shape) for bottom in (rois, losses, labels, weights)))
        kept = kept.view(shapes[0])
        ignored = torch.full_like(labels, self.ignore_label)
        return torch.where(kept, labels.view(shapes[0]), ignored.view(shapes[0])), weights.reshape(shapes[1]) * kept

    def deploy_form(self) -> None:
        return None

    @classmethod
    def example(cls, dice: Dice) -> Example:
        number, images, k = dice.integer(1, 9), dice.integer(1, 3), dice.integer(1, 8)
        rois = np.concatenate((dice.indices(images, number, 1), dice.positive(number, 4)), 1)
        bottoms = [rois, dice.positive(number, 1, 1, 1), dice.indices(5, number, 1), dice.indices(2, number, k)]
        ignore = dice.pick("", "ignore_label: 255")
        fields = f"box_annotator_ohem_param {{ roi_per_img: {dice.integer(1, 4)} {ignore} }}"
        return Example(fields, bottoms, tops=2)
