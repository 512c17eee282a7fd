"""Im2col: every window of the bottom as a column of values."""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.geometry import conv_sizes, end_pads, overhang, read_conv_window
from caffe_compat.layers.shared.onnx_items import over_items

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
            x = x.unfold(first + i, window.extent()[i], window.stride[i])[..., :: window.dilation[i]]
        # (..., C, spatial'..., kernel...) -> (..., C, kernel..., spatial'...)
        sizes, kernels = range(first, first + self.spatial_axes), range(first + self.spatial_axes, x.dim())
        return x.permute(*range(first), *kernels, *sizes).flatten(self.axis, self.axis + self.spatial_axes)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        # A convolution with one-hot filters, one for each value of a window.
        first = self.axis + 1
        sizes, tops = step.bottom_shapes[0][first:], step.top_shapes[0][first:]
        channels, window = step.bottom_shapes[0][self.axis], self.window
        varies = step.varies(0, range(first, first + self.spatial_axes))
        values = count(window.kernel)
        filters = np.tile(np.eye(values).reshape(values, 1, *window.kernel), (channels, 1, *[1] * len(window.kernel)))
        attributes = {
            "kernel_shape": window.kernel,
            "strides": window.stride,
            "pads": [*window.pad, *(window.pad if varies else end_pads(sizes, tops, window))],
            "dilations": window.dilation,
            "group": channels,
        }
        weight = graph.constant(filters)
        return [over_items(graph, step, 0, self.axis, lambda x: graph.add("Conv", x, weight, **attributes))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        window = f"kernel_size: {dice.integer(1, 3)} stride: {dice.integer(1, 2)} pad: {dice.integer(0, 2)}"
        fields = f"convolution_param {{ {window} dilation: {dice.integer(1, 2)} }}"
        return Example(fields, [dice.normal(*dice.image())])
