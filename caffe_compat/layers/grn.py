"""GRN: the vector of channels at each place divided by its length (OpenVINO's training toolbox)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _PassedOn(torch.autograd.Function):
    """The second tensor, with the first one's gradient: that of the top as it is."""

    @staticmethod
    def forward(ctx: Any, bottom: Tensor, top: Tensor) -> Tensor:
        return top.clone()

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None]:
        return top_diffs[0], None


@register("GRN")
class GRN(Layer):
    """Bottom (N, C, ...) -> top of its shape: x / sqrt(sum over C of x^2 + ``bias``).

    ``dummy_backward``: the bottom's gradient is the top's, unchanged.
    """

    param_fields = ("grn_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.grn_param
        self.bias, self.dummy_backward = float(param.bias), bool(param.dummy_backward)
        if not self.bias >= 0:
            self.fail(f"grn_param.bias is {self.bias}; expected at least 0")

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) < 2:
            self.fail(f"bottom has shape {bottom}; expected at least 2 axes (N, C)")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        top = bottom / (bottom.square().sum(1, keepdim=True) + self.bias).sqrt()
        if self.dummy_backward:
            top = _PassedOn.apply(bottom, top.detach())
        return top

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        value = step.bottoms[0]
        total = graph.add("ReduceSum", graph.add("Mul", value, value), graph.sizes([1]), keepdims=1)
        return [graph.add("Div", value, graph.add("Sqrt", graph.shift(total, self.bias)))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape(2, 4)
        fields = f"bias: {dice.number(0.01, 1)} dummy_backward: {dice.switch()}"
        return Example(f"grn_param {{ {fields} }}", [dice.normal(*shape)])
