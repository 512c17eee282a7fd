"""Permute: put the axes into another order (SSD's fork)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Permute")
class Permute(Layer):
    """Axis i of the top is axis ``order[i]`` of the bottom; axes that ``order`` leaves out follow in rising order."""

    param_fields = ("permute_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        order = [int(axis) for axis in self.param.permute_param.order]
        if len(set(order)) < len(order) or max(order, default=0) >= max(1, len(bottom)):
            self.fail(f"permute_param.order is {order}; expected different axes from 0 to {len(bottom) - 1}")
        self.order = (*order, *(axis for axis in range(len(bottom)) if axis not in order))

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != len(self.order):
            self.fail(f"bottom has shape {bottom}; expected {len(self.order)} axes, as when the net was built")
        return [tuple(bottom[axis] for axis in self.order)]

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.permute(self.order)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Transpose", step.bottoms[0], perm=list(self.order))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape(1, 4)
        order = dice.rng.permutation(len(shape))[: dice.integer(0, len(shape))]
        fields = " ".join(f"order: {axis}" for axis in order)
        return Example(f"permute_param {{ {fields} }}", [dice.normal(*shape)])
