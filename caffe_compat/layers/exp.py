"""Exp: base ^ (shift + scale * x)."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Exp")
class Exp(NeuronLayer):
    """base -1, the default, stands for e.  Computed as outer * exp(inner * x)."""

    param_fields = ("exp_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.exp_param
        if param.base != -1 and not 0 < param.base < math.inf:
            self.fail(f"exp_param.base is {param.base:g}; expected a positive number, or -1 for e")
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        self.inner = log_base * param.scale
        # By torch, because math.exp raises where Caffe has inf.
        self.outer = torch.exp(torch.tensor(log_base * param.shift, dtype=torch.float64)).item()

    def forward(self, bottom: Tensor) -> Tensor:
        top = torch.exp(bottom if self.inner == 1 else bottom * self.inner)
        return top if self.outer == 1 else top * self.outer

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        return top_diff * top * self.inner

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.scale(graph.add("Exp", graph.scale(step.bottoms[0], self.inner)), self.outer)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        base, scale, shift = dice.pick(-1, 0.5, 2), dice.number(-1, 1), dice.number(-1, 1)
        return Example(f"exp_param {{ base: {base} scale: {scale} shift: {shift} }}", [dice.normal(*dice.shape())])
