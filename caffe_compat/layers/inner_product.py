"""InnerProduct: a fully connected layer over the axes from ``axis`` on."""

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.fillers import fill


@register("InnerProduct")
class InnerProduct(Layer):
    """Weight (num_output, K), or (K, num_output) with ``transpose``; K = product of the axes from
    ``axis`` on.  Bottom (..., K axes) -> top (..., num_output)."""

    param_fields = ("inner_product_param",)

    def setup(self, bottom: Shape) -> None:
        param = self.param.inner_product_param
        if not param.num_output:
            self.fail("inner_product_param.num_output is missing or 0; expected at least 1")
        self.num_output = int(param.num_output)
        self.axis = self.canonical_axis(param.axis, len(bottom), "inner_product_param.axis")
        self.inputs = count(bottom, self.axis)
        self.transpose = bool(param.transpose)
        shape = (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)
        self.add_blob("weight", shape, lambda t: fill(t, param.weight_filler))
        if param.bias_term:
            self.add_blob("bias", (self.num_output,), lambda t: fill(t, param.bias_filler))

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) <= self.axis or count(bottom, self.axis) != self.inputs:
            self.fail(
                f"bottom {bottom} has {count(bottom, self.axis)} values from axis {self.axis} on; "
                f"the weights take {self.inputs}"
            )
        return [(*bottom[: self.axis], self.num_output)]

    def forward(self, bottom: Tensor) -> Tensor:
        weight = self.blob(0).t() if self.transpose else self.blob(0)
        bias = self.blob(1) if len(self._blob_names) > 1 else None
        return functional.linear(bottom.flatten(self.axis), weight, bias)
