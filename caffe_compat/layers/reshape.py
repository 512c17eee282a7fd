"""Reshape: the same numbers in other axes."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, SharedMemory, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import refuse_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import Dim, OnnxGraph, OnnxStep


@register("Reshape")
class Reshape(Layer):
    """``num_axes`` axes from ``axis`` on (-1: all of them) are replaced by ``shape``, in which 0
    copies the bottom's axis at that place and one -1 is inferred.

    A negative ``axis`` counts from the number of axes + 1, so that -1 appends.
    """

    param_fields = ("reshape_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        refuse_in_place(self)
        param = self.param.reshape_param
        self.axis, self.num_axes = int(param.axis), int(param.num_axes)
        self.dims = tuple(param.shape.dim)
        if self.dims.count(-1) > 1 or min(self.dims, default=0) < -1:
            self.fail(f"reshape_param.shape is {self.dims}; expected sizes, 0 to copy, and at most one -1")

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        start, stop = self._replaced(bottom)
        middle = list(self.dims)
        for i, dim in enumerate(self.dims):
            if dim == 0:
                if start + i >= len(bottom):
                    self.fail(
                        f"reshape_param.shape is {self.dims}, but bottom {bottom} has no axis {start + i} "
                        f"for the 0 at place {i} to copy"
                    )
                middle[i] = bottom[start + i]
        total = math.prod(bottom)
        if -1 in middle:
            known = count(bottom, 0, start) * -math.prod(middle) * count(bottom, stop)
            if known == 0 or total % known:
                self.fail(f"bottom {bottom} has {total} values; the new shape {self.dims} takes a multiple of {known}")
            middle[middle.index(-1)] = total // known
        top = (*bottom[:start], *middle, *bottom[stop:])
        if math.prod(top) != total:
            self.fail(f"bottom {bottom} has {total} values; the new shape {top} has {math.prod(top)}")
        return [top]

    def _replaced(self, bottom: Shape) -> tuple[int, int]:
        axes = len(bottom)
        start = self.axis if self.axis >= 0 else axes + 1 + self.axis
        if not 0 <= start <= axes:
            self.fail(f"reshape_param.axis is {self.axis}; expected {-axes - 1} to {axes} for bottom {bottom}")
        if not -1 <= self.num_axes <= axes - start:
            self.fail(
                f"reshape_param.num_axes is {self.num_axes}; expected -1 to {axes - start} "
                f"from axis {start} of bottom {bottom}"
            )
        return start, axes if self.num_axes == -1 else start + self.num_axes

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.reshape(self.infer_shapes(tuple(bottom.shape))[0])

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        return SharedMemory()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        dims = step.dims()
        start, stop = self._replaced(step.bottom_shapes[0])
        middle: list[Dim] = list(step.top_shapes[0][start : start + len(self.dims)])
        for i, dim in enumerate(self.dims):
            if dim == 0:
                middle[i] = dims[start + i]
            elif dim == -1 and step.varies(0):
                middle[i] = -1
        return [graph.reshape(step.bottoms[0], [*dims[:start], *middle, *dims[stop:]])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape(2, 4)
        start = dice.integer(0, len(shape) - 1)
        axis = start - dice.integer(0, 1) * (len(shape) + 1)
        return Example(f"reshape_param {{ axis: {axis} shape {{ dim: -1 dim: 1 }} }}", [dice.normal(*shape)])
