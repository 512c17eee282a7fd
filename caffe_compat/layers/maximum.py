"""Maximum: where each map is largest (OpenPose's caffe_rtpose)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Maximum")
class Maximum(Layer):
    """Bottom (N, C, H, W) -> top (N, C, 1, 3): x, y and value of each map's largest value, the first of equal ones row
    by row; as on CUDA, where a map may be below 0 everywhere (the fork's CPU code gives 0, 0 for such a map)."""

    has_backward = False
    graph_safe = True

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W)")
        return [(*bottom[:2], 1, 3)]

    def forward(self, bottom: Tensor) -> Tensor:
        value, place = bottom.detach().flatten(2).max(2)
        width = bottom.shape[3]
        x, y = place % width, place.div(width, rounding_mode="floor")
        return torch.stack((x.to(value.dtype), y.to(value.dtype), value), 2).unsqueeze(2)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        batch, channels, _, width = step.dims()
        maps = graph.reshape(step.bottoms[0], [batch, channels, -1])
        place = graph.add("ArgMax", maps, axis=2, keepdims=1)
        columns = graph.size(width)
        x = graph.to_float(graph.add("Mod", place, columns))
        y = graph.to_float(graph.add("Div", place, columns))
        value = graph.add("ReduceMax", maps, graph.sizes([2]), keepdims=1)
        return [graph.unsqueeze(graph.add("Concat", x, y, value, axis=2), [2])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example("", [dice.normal(*dice.image())])
