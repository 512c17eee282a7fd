"""HardSwish: x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, MobileNetV3)."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("HardSwish")
class HardSwish(NeuronLayer):
    graph_safe = True

    def forward(self, bottom: Tensor) -> Tensor:
        return functional.hardswish(bottom)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("HardSwish", step.bottoms[0])]
