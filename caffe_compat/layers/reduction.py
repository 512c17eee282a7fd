"""Reduction: sum, sum of absolute values, sum of squares, or mean over the last axes."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Reduction")
class Reduction(Layer):
    """All axes from ``axis`` on are reduced, then multiplied by ``coeff``; axis 0 gives a scalar.

    The gradient of ASUM at 0 is 0.
    """

    param_fields = ("reduction_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.reduction_param
        self.operation = param.ReductionOp.Name(param.operation)
        self.axis, self.coeff = int(param.axis), float(param.coeff)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom[: self.canonical_axis(self.axis, len(bottom), "reduction_param.axis")]]

    def forward(self, bottom: Tensor) -> Tensor:
        items = bottom.flatten(self.axis)
        if self.operation == "ASUM":
            items = items.abs()
        elif self.operation == "SUMSQ":
            items = items * items
        top = items.mean(-1) if self.operation == "MEAN" else items.sum(-1)
        return top if self.coeff == 1 else top * self.coeff

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        operators = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
        axes = graph.sizes(range(len(step.top_shapes[0]), len(step.bottom_shapes[0])))
        return [graph.scale(graph.add(operators[self.operation], step.bottoms[0], axes, keepdims=0), self.coeff)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        fields = f"operation: {dice.pick('SUM', 'ASUM', 'SUMSQ', 'MEAN')} axis: {dice.axis(len(shape))}"
        return Example(f"reduction_param {{ {fields} coeff: {dice.number(-2, 2)} }}", [dice.normal(*shape)])
