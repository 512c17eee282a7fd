"""Log: log_base(shift + scale * x)."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place, warn_in_place_gradient

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _LogInPlace(torch.autograd.Function):
    """Caffe in place: the derivative at the *top* is stored over top_diff, then multiplied by itself."""

    @staticmethod
    def forward(ctx: Any, bottom: Tensor, layer: "Log") -> Tensor:
        top = layer.compute(bottom)
        ctx.save_for_backward(top)
        ctx.layer = layer
        return top

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> tuple[Tensor, None]:
        (top,) = ctx.saved_tensors
        layer = ctx.layer
        derivative = layer.scale * layer.outer / (top * layer.scale + layer.shift)
        return derivative * derivative, None


@register("Log")
class Log(NeuronLayer):
    """base -1, the default, stands for e."""

    param_fields = ("log_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.log_param
        # Base 1 would divide by log(1) = 0.
        if param.base != -1 and not (0 < param.base < math.inf and param.base != 1):
            self.fail(f"log_param.base is {param.base:g}; expected a positive number other than 1, or -1 for e")
        self.outer = 1.0 if param.base == -1 else 1 / math.log(param.base)
        self.scale, self.shift = float(param.scale), float(param.shift)
        self.in_place = is_in_place(self)
        warn_in_place_gradient(self)

    def forward(self, bottom: Tensor) -> Tensor:
        return _LogInPlace.apply(bottom, self) if self.in_place else self.compute(bottom)

    def compute(self, bottom: Tensor) -> Tensor:
        """The function itself, with autograd's gradient."""
        if self.scale != 1:
            bottom = bottom * self.scale
        if self.shift != 0:
            bottom = bottom + self.shift
        top = torch.log(bottom)
        return top if self.outer == 1 else top * self.outer

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        base = graph.shift(graph.scale(step.bottoms[0], self.scale), self.shift)
        return [graph.scale(graph.add("Log", base), self.outer)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        base, scale, shift = dice.pick(-1, 0.5, 2), dice.number(0.1, 2), dice.number(0, 1)
        return Example(f"log_param {{ base: {base} scale: {scale} shift: {shift} }}", [dice.positive(*dice.shape())])
