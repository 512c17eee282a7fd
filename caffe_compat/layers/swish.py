"""Swish: x * sigmoid(beta * x) (Ramachandran et al. 2017)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Swish")
class Swish(NeuronLayer):
    param_fields = ("swish_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.beta = float(self.param.swish_param.beta)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom * torch.sigmoid(bottom * self.beta)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        gate = graph.add("Sigmoid", graph.scale(step.bottoms[0], self.beta))
        return [graph.add("Mul", step.bottoms[0], gate)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example(f"swish_param {{ beta: {dice.number(-2, 2)} }}", [dice.normal(*dice.shape())])
