"""AbsVal: |x|."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer, refuse_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("AbsVal")
class AbsVal(NeuronLayer):
    """The gradient at 0 is 0."""

    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        refuse_in_place(self)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.abs()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Abs", step.bottoms[0])]
