"""Axpy: a * x + y, with one factor for each channel (Hu et al. 2017, Squeeze-and-Excitation Networks)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Axpy")
class Axpy(Layer):
    """Bottoms a (N, C) or (N, C, 1, 1), x (N, C, ...) and y, of the shape of x -> top a * x + y."""

    bottom_count = (3, 3)
    graph_safe = True

    def infer_shapes(self, a: Shape, x: Shape, y: Shape) -> list[Shape]:
        if len(x) < 2 or a[:2] != x[:2] or count(a, 2) != 1 or x != y:
            self.fail(
                f"bottoms have shapes {a}, {x} and {y}; expected (N, C, 1, 1), (N, C, H, W) and (N, C, H, W): "
                "factors, what they multiply, what is added"
            )
        return [x]

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return a.reshape(*x.shape[:2], *[1] * (x.dim() - 2)) * x + y

    def differs_from_opencv(self) -> str:
        return "a x + y, where OpenCV 4 computed a y + x"

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        a, x, y = step.bottoms
        channels, axes = step.bottom_shapes[1][1], len(step.bottom_shapes[1])
        factors = graph.reshape(a, (-1, channels, *[1] * (axes - 2)))
        return [graph.add("Add", graph.add("Mul", factors, x), y)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape(2, 4)
        a = (*shape[:2], *[1] * dice.pick(0, 2))
        return Example("", [dice.normal(*a), dice.normal(*shape), dice.normal(*shape)])
