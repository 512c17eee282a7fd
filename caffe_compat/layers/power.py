"""Power: (shift + scale * x) ^ power."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place, warn_in_place_gradient

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _Power(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bottom: Tensor, layer: "Power") -> Tensor:
        top = layer.compute(bottom)
        ctx.save_for_backward(top if layer.in_place else bottom, top)
        ctx.layer = layer
        return top

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> tuple[Tensor, None]:
        point, top = ctx.saved_tensors
        layer: Power = ctx.layer
        if layer.power * layer.scale == 0:
            return torch.zeros_like(top_diff), None
        derivative = layer.derivative(point, top)
        # In place Caffe stores the derivative over top_diff, then multiplies it by itself.
        return derivative * (derivative if layer.in_place else top_diff), None


@register("Power")
class Power(NeuronLayer):
    """Where scale or power is 0 the top is a constant, whatever the bottom (nan too).

    Unlike PyTorch's pow, the gradient of a power other than 1 and 2 is power * scale * top /
    (shift + scale * x), which is nan, not a limit, where the base is 0.
    """

    param_fields = ("power_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.power_param
        self.power, self.scale, self.shift = float(param.power), float(param.scale), float(param.shift)
        self.in_place = is_in_place(self)
        warn_in_place_gradient(self)

    def forward(self, bottom: Tensor) -> Tensor:
        top: Tensor = _Power.apply(bottom, self)
        return top

    def compute(self, bottom: Tensor) -> Tensor:
        """The function itself, step by step as Caffe rounds it."""
        if self.power * self.scale == 0:
            return torch.full_like(bottom, 1.0 if self.power == 0 else self.shift).pow(self.power)
        top = self._base(bottom)
        return top if self.power == 1 else top.pow(self.power)

    def derivative(self, point: Tensor, top: Tensor) -> Tensor:
        """d top / d bottom by Caffe's formulas; ``point`` is the bottom, in place the top."""
        if self.power == 1:
            return torch.full_like(point, self.scale)
        if self.power == 2:
            return 2 * self.scale * self.scale * point + 2 * self.scale * self.shift
        if self.shift == 0:
            return self.power * (top / point)
        return self.power * self.scale * (top / self._base(point))

    def _base(self, point: Tensor) -> Tensor:
        scaled = point if self.scale == 1 else point * self.scale
        return scaled if self.shift == 0 else scaled + self.shift

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        base = graph.shift(graph.scale(step.bottoms[0], self.scale), self.shift)
        return [base if self.power == 1 else graph.add("Pow", base, graph.constant(self.power))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"power: {dice.pick(0, 1, 2, 3, 0.5, -1)} scale: {dice.number(0.1, 2)} shift: {dice.pick(0, 0.5)}"
        return Example(f"power_param {{ {fields} }}", [dice.positive(*dice.shape())])
