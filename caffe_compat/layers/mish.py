"""Mish: x * tanh(log(1 + exp(x))) (Misra 2019)."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Mish")
class Mish(NeuronLayer):
    graph_safe = True

    def forward(self, bottom: Tensor) -> Tensor:
        return functional.mish(bottom)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        gate = graph.add("Tanh", graph.add("Softplus", step.bottoms[0]))
        return [graph.add("Mul", step.bottoms[0], gate)]
