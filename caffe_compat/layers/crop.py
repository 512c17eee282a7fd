"""Crop: cut a bottom to the size of another."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Crop")
class Crop(Layer):
    """Bottom, and one whose sizes from ``axis`` on are wanted -> the first, cut from ``offset`` on.

    ``offset`` is given once for all cut axes, once for each, or not at all (0).
    """

    param_fields = ("crop_param",)
    bottom_count = (2, 2)

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
