"""ReLU: max(x, 0) + negative_slope * min(x, 0)."""

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("ReLU")
class ReLU(Layer):
    """At x = 0 the gradient is ``negative_slope``, as in PyTorch."""

    param_fields = ("relu_param",)

    def setup(self, bottom: Shape) -> None:
        self.negative_slope = float(self.param.relu_param.negative_slope)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        if self.negative_slope == 0:
            return functional.relu(bottom)
        return functional.leaky_relu(bottom, self.negative_slope)
