"""Slice: one bottom cut along an axis into several tops."""

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import MAX_COUNT, Layer, Shape, SharedMemory
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Slice")
class Slice(Layer):
    """Cut before each ``slice_point`` of ``axis`` (or the older ``slice_dim``), or into equal parts."""

    param_fields = ("slice_param",)
    top_count = (1, None)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        param = self.param.slice_param
        if param.HasField("axis") and param.HasField("slice_dim"):
            self.fail("both slice_param.axis and slice_dim are given; give axis only")
        self.legacy = param.HasField("slice_dim")
        self.axis = int(param.slice_dim if self.legacy else param.axis)
        self.points = tuple(param.slice_point)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if self.legacy and self.axis >= len(bottom):
            self.fail(f"slice_param.slice_dim is {self.axis}; the bottom has shape {bottom}")
        axis = self.canonical_axis(self.axis, len(bottom), "slice_param.axis")
        return [(*bottom[:axis], size, *bottom[axis + 1 :]) for size in self._sizes(bottom, bottom[axis])]

    def _sizes(self, bottom: Shape, length: int) -> list[int]:
        if not self.points:
            if length % self.num_tops:
                self.fail(
                    f"{self.num_tops} tops cannot share {length} values evenly (axis {self.axis} of bottom {bottom})"
                )
            return [length // self.num_tops] * self.num_tops
        if len(self.points) != self.num_tops - 1:
            self.fail(
                f"{len(self.points)} slice_param.slice_point for {self.num_tops} tops; expected {self.num_tops - 1}"
            )
        edges = (0, *self.points, length)
        sizes = [stop - start for start, stop in pairwise(edges)]
        if min(sizes) < 1:
            self.fail(
                f"slice_param.slice_point is {self.points}; expected growing numbers between 0 and {length} "
                f"(axis {self.axis} of bottom {bottom})"
            )
        return sizes

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = bottom.split(self._sizes(tuple(bottom.shape), bottom.shape[self.axis]), self.axis)
        return result

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        return SharedMemory() if self.num_tops == 1 else None

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        axis = self.axis % len(step.bottom_shapes[0])
        lengths = [shape[axis] for shape in step.top_shapes]
        if not step.varies(0, [axis]):
            return graph.add_many("Split", [step.bottoms[0], graph.sizes(lengths)], len(lengths), axis=axis)
        if not self.points:
            return graph.add_many("Split", step.bottoms, len(lengths), axis=axis, num_outputs=len(lengths))
        bounds = [map(graph.sizes, ([start], [stop])) for start, stop in pairwise((0, *self.points, MAX_COUNT))]
        return [graph.add("Slice", step.bottoms[0], *bound, graph.sizes([axis])) for bound in bounds]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = list(dice.shape())
        axis, tops = dice.integer(0, len(shape) - 1), dice.integer(1, 3)
        if dice.integer(0, 1):
            shape[axis] = tops * dice.integer(1, 3)
            points = ""
        else:
            shape[axis] = 6
            points = " ".join(f"slice_point: {p}" for p in sorted(dice.rng.permutation(range(1, 6))[: tops - 1]))
        return Example(f"slice_param {{ axis: {axis} {points} }}", [dice.normal(*shape)], tops=tops)
