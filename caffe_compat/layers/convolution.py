"""Convolution with groups, over any number of spatial axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.geometry import (
    KernelWindow,
    conv_sizes,
    end_pads,
    overhang,
    read_conv_window,
    window_details,
)
from caffe_compat.layers.shared.onnx_items import over_items
from caffe_compat.ops import conv_choice
from caffe_compat.ops.conv import conv
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.torch_conv import torch_conv
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Convolution")
class Convolution(Layer):
    """Bottoms (N, C, spatial...) -> tops (N, num_output, spatial'...), one top per bottom.

    Weight (num_output, C / group, kernel...), bias (num_output,).  ``engine: CAFFE`` runs this
    package's operator, ``CUDNN`` PyTorch's; ``DEFAULT`` takes ours for groups on a GPU
    that ``caffe-compat tune`` has measured, PyTorch's elsewhere.  With
    ``axis`` > 1 the axes before it are a larger batch.
    """

    param_fields = ("convolution_param",)
    bottom_count = (1, None)
    top_count = (1, None)
    equal_counts = True
    graph_safe = True
    drawing_kind = "weights"
    onnx_operator: ClassVar[str] = "Conv"

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.convolution_param
        first = bottoms[0]
        self.axis = self.canonical_axis(param.axis, len(first), "convolution_param.axis")
        self.spatial_axes = len(first) - self.axis - 1
        self.window = read_conv_window(self, param, self.spatial_axes)
        self.channels = first[self.axis]
        self.num_output, self.group = int(param.num_output), int(param.group)
        if self.num_output < 1:
            self.fail("convolution_param.num_output is missing or 0; expected at least 1")
        if self.group < 1 or self.channels % self.group or self.num_output % self.group:
            self.fail(
                f"convolution_param.group is {self.group}; it must divide both the bottom's {self.channels} "
                f"channels and num_output {self.num_output}"
            )
        self.engine: str = param.Engine.Name(param.engine)
        self._add_conv_blobs(param)

    def _add_conv_blobs(self, param: caffe_pb2.ConvolutionParameter) -> None:
        shape = (self.num_output, self.channels // self.group, *self.window.kernel)
        self.add_blob("weight", shape, lambda t: fill(t, param.weight_filler))
        if param.bias_term:
            self.add_blob("bias", (self.num_output,), lambda t: fill(t, param.bias_filler))

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        first = bottoms[0]
        if len(first) != self.axis + 1 + self.spatial_axes:
            self.fail(f"bottom has shape {first}; expected {self.axis + 1 + self.spatial_axes} axes")
        if first[self.axis] != self.channels:
            self.fail(f"bottom {first} has {first[self.axis]} channels; the weights take {self.channels}")
        for other in bottoms[1:]:
            if other != first:
                self.fail(f"bottoms have shapes {first} and {other}; expected equal shapes")
        sizes = self._output_sizes(first[self.axis + 1 :])
        return [(*first[: self.axis], self.num_output, *sizes)] * len(bottoms)

    def _output_sizes(self, sizes: Shape) -> Shape:
        return conv_sizes(self, sizes, self.window)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        weight = self.blob(0)
        bias = self.blob(1) if len(self._blob_names) > 1 else None
        return tuple(self._convolve(bottom, weight, bias) for bottom in bottoms)

    def _convolve(self, bottom: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        lead = bottom.shape[: self.axis]
        # (lead..., C, spatial...) -> (N, C, spatial...)
        x = bottom if self.axis == 1 else bottom.reshape(count(lead), *bottom.shape[self.axis :])
        y = self._run(x, weight, bias)
        return y if self.axis == 1 else y.reshape(*lead, *y.shape[1:])

    def _takes_ours(self, x: Tensor) -> bool:
        return self.engine == "CAFFE" or (
            self.engine == "DEFAULT" and self.group > 1 and x.is_cuda and conv_choice.is_tuned(x.device)
        )

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        window = self.window.with_groups(self.group)
        missing = overhang(x.shape[2:], self.window)
        if any(missing):
            x = functional.pad(x, [p for size in reversed(missing) for p in (0, size)])
        if self.spatial_axes == 2 and self._takes_ours(x):
            return conv(x, weight, bias, **window.keywords())
        if self.spatial_axes == 0:
            # Caffe accepts a net without spatial axes: a 1x1 convolution of vectors.
            window = ConvWindow.per_axis(1, groups=self.group)
            return torch_conv(x.unsqueeze(-1), weight.unsqueeze(-1), bias, window)[..., 0]
        if self.spatial_axes <= 3:
            return torch_conv(x, weight, bias, window)
        return _convolve_nd(x, weight, bias, window)

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        # Each output takes one filter: all weights of its channel.
        return sum(2 * count(top) * count(self.blob_shapes[0], 1) for top in top_shapes)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        weight = self.blobs[0] if self.spatial_axes else self.blob(0).unsqueeze(-1)
        parameters = [graph.constant(blob) for blob in (weight, *self.blobs[1:])]
        window = self.window if self.spatial_axes else KernelWindow((1,), (1,), (0,), (1,))
        attributes = {
            "kernel_shape": window.kernel,
            "strides": window.stride,
            "pads": [*window.pad, *(self._end_pads(step) if self.spatial_axes else (0,))],
            "dilations": window.dilation,
            "group": self.group,
        }
        return [
            over_items(graph, step, j, self.axis, lambda x: graph.add(self.onnx_operator, x, *parameters, **attributes))
            for j in range(len(step.bottoms))
        ]

    def _end_pads(self, step: "OnnxStep") -> Sequence[int]:
        first = self.axis + 1
        if step.varies(0, range(first, first + self.spatial_axes)):
            return self.window.pad
        return end_pads(step.bottom_shapes[0][first:], step.top_shapes[0][first:], self.window)

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        conv = param.convolution_param
        group = f", group {conv.group}" if conv.group > 1 else ""
        return [f"{conv.num_output} outputs{group}", *window_details(conv)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        group = dice.integer(1, 3)
        shape = dice.image(group * dice.integer(1, 3))
        kernel, dilation = dice.integer(1, 3), dice.integer(1, 2)
        window = f"kernel_size: {kernel} stride: {dice.integer(1, 3)} pad: {dice.integer(0, 2)} dilation: {dilation}"
        if dice.integer(0, 1):
            window = f"kernel_h: {kernel} kernel_w: {dice.integer(1, 4)} stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0"
        fields = f"num_output: {group * dice.integer(1, 3)} group: {group} bias_term: {dice.switch()} {window}"
        return Example(f"convolution_param {{ {fields} }}", [dice.normal(*shape)])


def _convolve_nd(x: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow) -> Tensor:
    """More than three spatial axes, by unfolding each axis; PyTorch has no such convolution."""
    stride, pad, dilation, group = window
    axes = len(stride)
    x = functional.pad(x, [p for size in reversed(pad) for p in (size, size)])
    kernel = weight.shape[2:]
    for i in range(axes):
        extent = dilation[i] * (kernel[i] - 1) + 1
        # Each unfold appends its window as the last axis.
        x = x.unfold(2 + i, extent, stride[i])[..., :: dilation[i]]
    # (N, C, out..., kernel...) -> (N, group, C/group, out..., kernel...)
    x = x.reshape(x.shape[0], group, -1, *x.shape[2:])
    w = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    out, ker = "abcdefghi"[:axes], "jklmpqrst"[:axes]
    y = torch.einsum(f"ngz{out}{ker},goz{ker}->ngo{out}", x, w).flatten(1, 2)
    return y if bias is None else y + bias.view(-1, *[1] * axes)
