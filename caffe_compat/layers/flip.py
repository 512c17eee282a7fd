"""Flip: mirror images left to right, top to bottom (caffe-windows)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import MAX_COUNT, Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Flip")
class Flip(Layer):
    """Bottom (N, C, H, W) -> top of its shape, mirrored along W (``flip_width``) and H (``flip_height``)."""

    param_fields = ("flip_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        param = self.param.flip_param
        self.axes = [axis for axis, flipped in ((2, param.flip_height), (3, param.flip_width)) if flipped]

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected (N, C, H, W)")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.flip(self.axes)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        value = step.bottoms[0]
        for axis in self.axes:
            # Backwards from the last to before the first, which ONNX writes as below any index.
            ends = [graph.sizes([end]) for end in (-1, -MAX_COUNT, axis, -1)]
            value = graph.add("Slice", value, *ends)
        return [value if self.axes else graph.add("Identity", value)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"flip_width: {dice.switch()} flip_height: {dice.switch()}"
        return Example(f"flip_param {{ {fields} }}", [dice.normal(*dice.image())])
