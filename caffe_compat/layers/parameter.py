"""Parameter: a learned blob as a top, without a bottom."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Parameter")
class Parameter(Layer):
    """The top is the parameter of ``shape`` itself, zero at first (there is no filler)."""

    param_fields = ("parameter_param",)
    bottom_count = (0, 0)

    def setup(self) -> None:
        self.add_blob("weight", tuple(self.param.parameter_param.shape.dim))

    def infer_shapes(self) -> list[Shape]:
        return [self.blob_shapes[0]]

    def forward(self) -> Tensor:
        return self.blob(0)
