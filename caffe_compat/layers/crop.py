"""Crop: cut a bottom to the size of another."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Crop")
class Crop(Layer):
    """Bottom, and one whose sizes from ``axis`` on are wanted -> the first, cut from ``offset`` on.

    ``offset`` is given once for all cut axes, once for each, or not at all (0).
    """

    param_fields = ("crop_param",)
    bottom_count = (2, 2)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape, like: Shape) -> None:
        self.axis = self.canonical_axis(self.param.crop_param.axis, len(bottom), "crop_param.axis")
        cut_axes = len(bottom) - self.axis
        offsets = [int(offset) for offset in self.param.crop_param.offset] or [0]
        if len(offsets) not in (1, cut_axes):
            self.fail(f"crop_param.offset is given {len(offsets)} times; expected once, or for each of {cut_axes} axes")
        self.offsets = offsets * cut_axes if len(offsets) == 1 else offsets

    def infer_shapes(self, bottom: Shape, like: Shape) -> list[Shape]:
        if len(bottom) != self.axis + len(self.offsets) or len(like) < len(bottom):
            self.fail(f"cannot crop {bottom} to the size of {like} from axis {self.axis} on: the axes do not match")
        for axis, offset in enumerate(self.offsets, self.axis):
            if bottom[axis] - offset < like[axis]:
                self.fail(
                    f"axis {axis} of bottom {bottom} is too short for a crop of {like[axis]} from offset {offset}"
                )
        return [(*bottom[: self.axis], *like[self.axis : len(bottom)])]

    def forward(self, bottom: Tensor, like: Tensor) -> Tensor:
        for axis, offset in enumerate(self.offsets, self.axis):
            bottom = bottom.narrow(axis, offset, like.shape[axis])
        return bottom

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        axes = range(self.axis, self.axis + len(self.offsets))
        starts = graph.sizes(self.offsets)
        if step.varies(1, axes):
            ends = graph.add("Add", graph.shape([step.dims(1)[axis] for axis in axes]), starts)
        else:
            ends = graph.sizes([o + step.top_shapes[0][axis] for o, axis in zip(self.offsets, axes, strict=True)])
        return [graph.add("Slice", step.bottoms[0], starts, ends, graph.sizes(axes))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.image()
        axis = dice.integer(0, 3)
        sizes = [dice.integer(1, size) for size in shape]
        offsets = [dice.integer(0, size - kept) for size, kept in zip(shape, sizes, strict=True)][axis:]
        if dice.integer(0, 1):
            offsets = [min(offsets)]
        text = " ".join(f"offset: {offset}" for offset in offsets)
        fields = f"crop_param {{ axis: {axis - 4 * dice.integer(0, 1)} {text} }}"
        return Example(fields, [dice.normal(*shape), dice.normal(*sizes)])
