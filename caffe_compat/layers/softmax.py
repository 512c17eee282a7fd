"""Softmax along one axis."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Softmax")
class Softmax(Layer):
    param_fields = ("softmax_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.axis = int(self.param.softmax_param.axis)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        self.canonical_axis(self.axis, len(bottom), "softmax_param.axis")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.softmax(bottom, self.axis)

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        return (top_diff - (top_diff * top).sum(self.axis, keepdim=True)) * top

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Softmax", step.bottoms[0], axis=self.axis)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        return Example(f"softmax_param {{ axis: {dice.axis(len(shape))} }}", [dice.normal(*shape)])
