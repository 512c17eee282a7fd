"""Concat: bottoms joined along one axis."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, SharedMemory
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Concat")
class Concat(Layer):
    """Bottoms that agree in all axes but ``axis`` (or the older ``concat_dim``) -> one top."""

    param_fields = ("concat_param",)
    bottom_count = (1, None)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.concat_param
        if param.HasField("axis") and param.HasField("concat_dim"):
            self.fail("both concat_param.axis and concat_dim are given; give axis only")
        self.legacy = param.HasField("concat_dim")
        self.axis = int(param.concat_dim if self.legacy else param.axis)

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        first = bottoms[0]
        if self.legacy and self.axis >= len(first):
            self.fail(f"concat_param.concat_dim is {self.axis}; bottom 0 has shape {first}")
        axis = self.canonical_axis(self.axis, len(first), "concat_param.axis")
        for i, shape in enumerate(bottoms[1:], 1):
            if len(shape) != len(first):
                self.fail(f"bottom {i} has shape {shape}, bottom 0 {first}; expected the same number of axes")
            if shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
                self.fail(f"bottom {i} has shape {shape}, bottom 0 {first}; they may differ in axis {axis} only")
        return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return torch.cat(bottoms, self.axis) if len(bottoms) > 1 else bottoms[0]

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        return SharedMemory() if len(self.param.bottom) == 1 else None

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Concat", *step.bottoms, axis=self.axis)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = list(dice.shape())
        axis = dice.integer(0, len(shape) - 1)
        bottoms = []
        for _ in range(dice.integer(1, 4)):
            shape[axis] = dice.integer(1, 4)
            bottoms.append(dice.normal(*shape))
        field = f"concat_dim: {axis}" if dice.integer(0, 1) else f"axis: {axis - len(shape) * dice.integer(0, 1)}"
        return Example(f"concat_param {{ {field} }}", bottoms)
