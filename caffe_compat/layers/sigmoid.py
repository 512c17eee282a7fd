"""Sigmoid: 1 / (1 + exp(-x))."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Sigmoid")
class Sigmoid(NeuronLayer):
    """``engine`` chose between equal results in Caffe and changes nothing here."""

    param_fields = ("sigmoid_param",)
    graph_safe = True

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.sigmoid(bottom)

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        return top_diff * top * (1 - top)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Sigmoid", step.bottoms[0])]
