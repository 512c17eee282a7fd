"""ScaleRoute: the regions of some sizes, for one level of a feature pyramid (Cascade R-CNN)."""

import math

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

# What the size of the one region is near to, where none is asked for.
DEFAULT_MIDDLE = 256.0


@register("ScaleRoute")
class ScaleRoute(Layer):
    """Bottoms regions (R, 5): image, x1, y1, x2, y2, and others (R, ...) -> tops of the same, with the regions whose
    size, the root of their area, is at least ``low_scale`` and below ``high_scale``.

    If there is none, the one that is nearest to the middle, sqrt(``low_scale`` ``high_scale``), by its logarithm.
    Pixels belong to a region: one of width 16 goes from 0 to 15.  Gradients: none.
    """

    param_fields = ("scale_route_param",)
    onnx_obstacle = "a choice of boxes has a form for DetectionOutput and Proposal only"
    bottom_count = (1, None)
    top_count = (1, None)
    equal_counts = True
    tops_depend_on_data = True
    graph_obstacle = "has tops whose sizes depend on the data"

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.scale_route_param
        self.low = float(param.low_scale) if param.HasField("low_scale") else 0.0
        self.high = float(param.high_scale) if param.HasField("high_scale") else math.inf
        if self.low < 0 or self.high < self.low or (param.HasField("low_scale") and self.low == 0):
            self.fail(
                f"scale_route_param has low_scale {self.low} and high_scale {self.high}; expected two above 0, in order"
            )
        ends = [end for end in (self.low, self.high) if 0 < end < math.inf]
        self.middle = math.sqrt(ends[0] * ends[-1]) if ends else DEFAULT_MIDDLE

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        """One region, as the fork gives: how many there are, only the data knows."""
        rois = bottoms[0]
        if not rois or count(rois, 1) != 5 or any(not shape or shape[0] != rois[0] for shape in bottoms):
            self.fail(f"bottoms have shapes {', '.join(map(str, bottoms))}; expected (R, 5) and (R, ...)")
        return [(1, *shape[1:]) for shape in bottoms]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        rois = bottoms[0].detach().flatten(1)
        sides = rois[:, 3:] - rois[:, 1:3]
        area = torch.where((sides < 0).any(1), 0, (sides + 1).prod(1))
        size = area.sqrt()
        chosen = ((size >= self.low) & (size < self.high)).nonzero().squeeze(1)
        if not len(chosen):
            chosen = (size / self.middle).log2().abs().argmin().view(1)
        return tuple(bottom.detach().index_select(0, chosen) for bottom in bottoms)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        regions = dice.integer(1, 6)
        corners = dice.rng.integers(0, 50, (regions, 2))
        sides = dice.rng.integers(5, 100, (regions, 2))
        image = dice.indices(2, regions, 1)
        rois = torch.cat([torch.as_tensor(part).float() for part in (image, corners, corners + sides)], 1).numpy()
        fields = dice.pick("", "low_scale: 30", "high_scale: 30", "low_scale: 20 high_scale: 40.5")
        bottoms = [rois, dice.normal(regions, 3)][: dice.integer(1, 2)]
        return Example(f"scale_route_param {{ {fields} }}", bottoms, tops=len(bottoms))
