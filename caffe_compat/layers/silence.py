"""Silence: takes blobs that nobody else reads, so that they are no outputs of the net."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Silence")
class Silence(Layer):
    """Any number of bottoms, no top; the bottoms' gradient is 0."""

    bottom_count = (1, None)
    top_count = (0, 0)
    graph_safe = True

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return []

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example("", [dice.normal(*dice.shape())], tops=0)
