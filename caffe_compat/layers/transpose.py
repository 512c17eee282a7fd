"""Transpose: the bottom's axes in another order (CTPN)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import refuse_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Transpose")
class Transpose(Layer):
    """Axis i of the top is axis ``dim[i]`` of the bottom; every axis is named once."""

    param_fields = ("transpose_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        refuse_in_place(self)
        self.dims = tuple(int(dim) for dim in self.param.transpose_param.dim)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if not bottom or sorted(self.dims) != list(range(len(bottom))):
            self.fail(f"transpose_param.dim is {self.dims}; expected each axis of bottom {bottom} once, from 0 on")
        return [tuple(bottom[dim] for dim in self.dims)]

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.permute(self.dims)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Transpose", step.bottoms[0], perm=self.dims)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        dims = " ".join(f"dim: {axis}" for axis in dice.rng.permutation(len(shape)))
        return Example(f"transpose_param {{ {dims} }}", [dice.normal(*shape)])
