"""Im2col: every window of the bottom as a column of values."""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.geometry import conv_sizes, end_pads, overhang, read_conv_window

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Im2col")
class Im2col(Layer):
    """Bottom (..., C, spatial...) -> top (..., C * kernel size, spatial'...), the channels of the top
    in the order C, kernel axes.  Reads the window of ``convolution_param``."""

    param_fields = ("convolution_param",)
    graph_safe = True

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

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        # A convolution with one-hot filters, one for each value of a window.
        if self.axis != 1:
            self.fail("ONNX convolves over axis 1 only")
        channels, window = step.bottom_shapes[0][1], self.window
        values = count(window.kernel)
        filters = np.tile(np.eye(values).reshape(values, 1, *window.kernel), (channels, 1, *[1] * len(window.kernel)))
        attributes = {
            "kernel_shape": window.kernel,
            "strides": window.stride,
            "pads": [*window.pad, *end_pads(step.bottom_shapes[0][2:], step.top_shapes[0][2:], window)],
            "dilations": window.dilation,
            "group": channels,
        }
        return [graph.add("Conv", step.bottoms[0], graph.constant(filters), **attributes)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        window = f"kernel_size: {dice.integer(1, 3)} stride: {dice.integer(1, 2)} pad: {dice.integer(0, 2)}"
        fields = f"convolution_param {{ {window} dilation: {dice.integer(1, 2)} }}"
        return Example(fields, [dice.normal(*dice.image())])
