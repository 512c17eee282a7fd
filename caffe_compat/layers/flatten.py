"""Flatten: the axes from ``axis`` to ``end_axis`` become one."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, SharedMemory, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import refuse_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Flatten")
class Flatten(Layer):
    """(a, b, c, d) -> (a, b*c*d) by default.  end_axis = axis - 1 inserts an axis of size 1."""

    param_fields = ("flatten_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        refuse_in_place(self)
        self.axis = int(self.param.flatten_param.axis)
        self.end_axis = int(self.param.flatten_param.end_axis)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        start, stop = self._merged_axes(len(bottom))
        if start > stop:
            self.fail(f"flatten_param.end_axis {self.end_axis} lies before axis {self.axis} of bottom {bottom}")
        return [(*bottom[:start], count(bottom, start, stop), *bottom[stop:])]

    def _merged_axes(self, rank: int) -> tuple[int, int]:
        start = self.canonical_axis(self.axis, rank, "flatten_param.axis")
        return start, self.canonical_axis(self.end_axis, rank, "flatten_param.end_axis") + 1

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.reshape(self.infer_shapes(tuple(bottom.shape))[0])

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        # Caffe joins the diffs in its backward pass only.
        return SharedMemory(since="forward", diff="backward")

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        dims = step.dims()
        start, stop = self._merged_axes(len(dims))
        merged = -1 if step.varies(0, range(start, stop)) else step.top_shapes[0][start]
        return [graph.reshape(step.bottoms[0], [*dims[:start], merged, *dims[stop:]])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        start = dice.integer(0, len(shape) - 1)
        fields = f"axis: {start} end_axis: {dice.integer(start, len(shape) - 1) - len(shape)}"
        return Example(f"flatten_param {{ {fields} }}", [dice.normal(*shape)])
