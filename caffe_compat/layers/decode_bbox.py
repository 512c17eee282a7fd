"""DecodeBBox: regions moved by a box regression, for the next stage (Cascade R-CNN, Cai and Vasconcelos 2018)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.box_rows import read_normalisation
from caffe_compat.layers.shared.example import Dice, Example


@register("DecodeBBox")
class DecodeBBox(Layer):
    """Bottoms offsets (R, 8) and regions (R, 5): image, x1, y1, x2, y2 -> top (R, 5, 1, 1), the regions moved by the
    offsets' last four: of the centre in parts of the region's size, and logarithms of the sizes' quotients.

    Offsets are first multiplied by ``bbox_reg_param.bbox_std`` and added to ``bbox_mean``.  In training, regions turned
    inside out are left out, and so are those that a third bottom (R, ...) says overlap with a labelled box by
    ``gt_iou_thr`` or more, its last number.  Pixels belong to a region: one of width 16 goes from 0 to 15.  Gradients:
    none.
    """

    param_fields = ("bbox_reg_param", "decode_bbox_param")
    onnx_obstacle = "a choice of boxes has a form for DetectionOutput and Proposal only"
    bottom_count = (2, 3)
    graph_obstacle = "has a top whose size depends on the data, in training"

    def setup(self, offsets: Shape, rois: Shape, labelled: Shape | None = None) -> None:
        self.mean, self.std = read_normalisation(self)
        self.most_overlap = float(self.param.decode_bbox_param.gt_iou_thr)
        self.tops_depend_on_data = self.phase == "TRAIN"  # type: ignore[misc]
        if labelled is not None and self.phase != "TRAIN":
            self.fail("has a third bottom, the labelled boxes, outside training; remove it")

    def infer_shapes(self, offsets: Shape, rois: Shape, labelled: Shape | None = None) -> list[Shape]:
        regions = {shape[0] if shape else 0 for shape in (offsets, rois, labelled) if shape is not None}
        if len(regions) > 1 or count(offsets, 1) != 8 or count(rois, 1) != 5:
            self.fail(f"bottoms have shapes {offsets} and {rois}; expected (R, 8) offsets and (R, 5) regions")
        return [(rois[0], 5, 1, 1)]

    def forward(self, offsets: Tensor, rois: Tensor, labelled: Tensor | None = None) -> Tensor:
        rois, moves = rois.detach().flatten(1), offsets.detach().flatten(1)[:, 4:]
        moves = moves * moves.new_tensor(self.std) + moves.new_tensor(self.mean)
        sides = rois[:, 3:] - rois[:, 1:3] + 1
        centers = moves[:, :2] * sides + 0.5 * (rois[:, 3:] + rois[:, 1:3])
        sides = sides * moves[:, 2:].exp()
        first = centers - (sides - 1) / 2
        top = torch.cat((rois[:, :1], first, first + sides - 1), 1)
        if self.training:
            kept = (top[:, 1:3] <= top[:, 3:]).all(1)
            if labelled is not None:
                kept = kept & (labelled.flatten(1)[:, -1] < self.most_overlap)
            top = top[kept]
        return top.view(-1, 5, 1, 1)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        regions = dice.integer(1, 6)
        corners = dice.rng.uniform(0, 50, (regions, 2))
        boxes = (dice.indices(2, regions), corners, corners + dice.rng.uniform(5, 50, (regions, 2)))
        rois = torch.cat([torch.as_tensor(part).float().view(regions, -1) for part in boxes], 1).numpy()
        std = " ".join(f"bbox_mean: 0.1 bbox_std: {value}" for value in (0.1, 0.1, 0.2, 0.2))
        fields = dice.pick("", f"bbox_reg_param {{ {std} }}")
        return Example(f"phase: TEST {fields}", [dice.normal(regions, 8), rois])
