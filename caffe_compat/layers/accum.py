"""Accum: blobs of different sizes, interpolated to one size and joined along the channels (FlowNet)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Accum")
class Accum(Layer):
    """Bottoms (N, C_i, H_i, W_i) -> top (N, sum of C_i, H, W), bilinear with the corners kept.

    H and W are the largest of the bottoms; or ``top_height`` and ``top_width``, or the largest rounded up to a multiple
    of ``size_divisible_by``, where both are larger than those; with ``have_reference`` those of the last bottom, which
    gives nothing else.
    """

    param_fields = ("accum_param",)
    bottom_count = (1, None)
    graph_safe = True

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.accum_param
        self.has_reference = bool(param.have_reference)
        self.divisor = int(param.size_divisible_by) if param.HasField("size_divisible_by") else None
        self.sizes = (int(param.top_height), int(param.top_width))
        if self.divisor == 0:
            self.fail("accum_param.size_divisible_by is 0; expected at least 1")
        if self.has_reference and len(bottoms) < 2:
            self.fail("accum_param.have_reference is set; expected at least 2 bottoms, the last one for the size")

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            if len(shape) != 4 or shape[0] != bottoms[0][0]:
                self.fail(f"bottom {i} has shape {shape}, bottom 0 {bottoms[0]}; expected (N, C, H, W) and one N")
        joined = bottoms[: len(bottoms) - self.has_reference]
        return [(bottoms[0][0], sum(shape[1] for shape in joined), *self._output_sizes(*bottoms))]

    def _output_sizes(self, *bottoms: Shape) -> Shape:
        if self.has_reference:
            return bottoms[-1][2:]
        largest = tuple(max(shape[axis] for shape in bottoms) for axis in (2, 3))
        wanted = self.sizes if self.divisor is None else tuple(-(-s // self.divisor) * self.divisor for s in largest)
        return wanted if all(a > b for a, b in zip(wanted, largest, strict=True)) else largest

    def forward(self, *bottoms: Tensor) -> Tensor:
        sizes = self._output_sizes(*(tuple(bottom.shape) for bottom in bottoms))
        joined = bottoms[: len(bottoms) - self.has_reference]
        resized = [functional.interpolate(x, sizes, mode="bilinear", align_corners=True) for x in joined]
        return torch.cat(resized, 1)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        joined = range(len(step.bottoms) - self.has_reference)
        varies = [step.varies(i, (2, 3)) for i in range(len(step.bottoms))]
        if any(varies) and not self.has_reference:
            self.fail("the largest of its bottoms' sizes has to be fixed; give a reference")
        sizes = step.dims(len(step.bottoms) - 1)[2:] if self.has_reference else step.top_shapes[0][2:]
        attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        values = []
        for i in joined:
            same = not any(varies) and step.bottom_shapes[i][2:] == step.top_shapes[0][2:]
            dims = [*step.dims(i)[:2], *sizes]
            values.append(step.bottoms[i] if same else graph.resize(step.bottoms[i], dims, **attributes))
        return [graph.add("Concat", *values, axis=1)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n = dice.integer(1, 2)
        shapes = [(n, *dice.image()[1:]) for _ in range(dice.integer(1, 3))]
        sizes = dice.pick("", "top_height: 11 top_width: 12", "size_divisible_by: 4")
        reference = "have_reference: true" if len(shapes) > 1 and dice.integer(0, 1) else ""
        return Example(f"accum_param {{ {sizes} {reference} }}", [dice.normal(*shape) for shape in shapes])
