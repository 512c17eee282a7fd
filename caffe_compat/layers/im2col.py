"""Im2col: every window of the bottom as a column of values."""

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.geometry import conv_sizes, overhang, read_conv_window


@register("Im2col")
class Im2col(Layer):
    """Bottom (..., C, spatial...) -> top (..., C * kernel size, spatial'...), the channels of the top
    in the order C, kernel axes.  Reads the window of ``convolution_param``."""

    param_fields = ("convolution_param",)

    def setup(self, bottom: Shape) -> None:
        param = self.param.convolution_param
        self.axis = self.canonical_axis(param.axis, len(bottom), "convolution_param.axis")
        self.spatial_axes = len(bottom) - self.axis - 1
        if self.spatial_axes < 1:
            self.fail(f"bottom {bottom} has no spatial axis after convolution_param.axis {param.axis}")
        self.window = read_conv_window(self, param, self.spatial_axes)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != self.axis + 1 + self.spatial_axes:
            self.fail(f"bottom has shape {bottom}; expected {self.axis + 1 + self.spatial_axes} axes")
        sizes = conv_sizes(self, bottom[self.axis + 1 :], self.window)
        return [(*bottom[: self.axis], bottom[self.axis] * count(self.window.kernel), *sizes)]

    def forward(self, bottom: Tensor) -> Tensor:
        window, first = self.window, self.axis + 1
        missing = overhang(bottom.shape[first:], window)
        pads = zip(window.pad, missing, strict=True)
        x = functional.pad(bottom, [p for pad, more in reversed([*pads]) for p in (pad, pad + more)])
        for i in range(self.spatial_axes):
            # Each unfold appends its window as the last axis.
            x = x.unfold(first + i, window.extent[i], window.stride[i])[..., :: window.dilation[i]]
        # (..., C, spatial'..., kernel...) -> (..., C, kernel..., spatial'...)
        sizes, kernels = range(first, first + self.spatial_axes), range(first + self.spatial_axes, x.dim())
        return x.permute(*range(first), *kernels, *sizes).flatten(self.axis, self.axis + self.spatial_axes)
