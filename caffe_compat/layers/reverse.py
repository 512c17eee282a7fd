"""Reverse: one axis back to front (CTPN)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import refuse_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Reverse")
class Reverse(Layer):
    """Bottom -> top of the same shape, its values along ``axis`` (from 0 on) in reverse order."""

    param_fields = ("reverse_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        refuse_in_place(self)
        self.axis = int(self.param.reverse_param.axis)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if not 0 <= self.axis < len(bottom):
            self.fail(f"reverse_param.axis is {self.axis}; expected 0 to {len(bottom) - 1} for bottom {bottom}")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.flip(self.axis)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        last, before_first = -1, -(2**31)
        bounds = [graph.sizes([value]) for value in (last, before_first, self.axis, -1)]
        return [graph.add("Slice", step.bottoms[0], *bounds)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        return Example(f"reverse_param {{ axis: {dice.integer(0, len(shape) - 1)} }}", [dice.normal(*shape)])
