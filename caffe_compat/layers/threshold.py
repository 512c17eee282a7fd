"""Threshold: 1 where x is above the threshold, else 0."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Threshold")
class Threshold(NeuronLayer):
    param_fields = ("threshold_param",)
    has_backward = False
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.threshold = float(self.param.threshold_param.threshold)

    def forward(self, bottom: Tensor) -> Tensor:
        return (bottom > self.threshold).to(bottom.dtype)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        above = graph.add("Greater", step.bottoms[0], graph.constant(self.threshold))
        return [graph.to_float(above)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example(f"threshold_param {{ threshold: {dice.number(-1, 1)} }}", [dice.normal(*dice.shape())])
