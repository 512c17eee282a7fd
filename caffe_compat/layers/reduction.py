"""Reduction: sum, sum of absolute values, sum of squares, or mean over the last axes."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Reduction")
class Reduction(Layer):
    """All axes from ``axis`` on are reduced, then multiplied by ``coeff``; axis 0 gives a scalar.

    The gradient of ASUM at 0 is 0.
    """

    param_fields = ("reduction_param",)

    def setup(self, bottom: Shape) -> None:
        param = self.param.reduction_param
        self.operation = param.ReductionOp.Name(param.operation)
        self.axis, self.coeff = int(param.axis), float(param.coeff)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom[: self.canonical_axis(self.axis, len(bottom), "reduction_param.axis")]]

    def forward(self, bottom: Tensor) -> Tensor:
        items = bottom.flatten(self.axis)
        if self.operation == "ASUM":
            items = items.abs()
        elif self.operation == "SUMSQ":
            items = items * items
        top = items.mean(-1) if self.operation == "MEAN" else items.sum(-1)
        return top if self.coeff == 1 else top * self.coeff
