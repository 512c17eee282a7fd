"""Bias: add a blob, learned or a second bottom, that is broadcast over the bottom."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.aligned import align, aligned_shape, check_aligned
from caffe_compat.layers.shared.fillers import fill


@register("Bias")
class Bias(Layer):
    """Bottom -> top of the same shape.  The bias has ``num_axes`` axes (-1: all) of the bottom from
    ``axis`` on, or those of the second bottom."""

    param_fields = ("bias_param",)
    bottom_count = (1, 2)

    def setup(self, bottom: Shape, bias: Shape | None = None) -> None:
        param = self.param.bias_param
        self.axis = int(param.axis)
        if bias is None:
            shape = aligned_shape(self, bottom, self.axis, param.num_axes, "bias_param")
            self.add_blob("bias", shape, lambda t: fill(t, param.filler))

    def infer_shapes(self, bottom: Shape, bias: Shape | None = None) -> list[Shape]:
        check_aligned(self, bottom, self.blob_shapes[0] if bias is None else bias, self.axis, "bias_param")
        return [bottom]

    def forward(self, bottom: Tensor, bias: Tensor | None = None) -> Tensor:
        return bottom + align(self.blob(0) if bias is None else bias, bottom, self.axis)
