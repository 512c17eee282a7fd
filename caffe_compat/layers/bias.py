"""Bias: add a blob, learned or a second bottom, that is broadcast over the bottom."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.aligned import (
    align,
    aligned_channels,
    aligned_example,
    aligned_shape,
    check_aligned,
    onnx_operand,
)
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Bias")
class Bias(Layer):
    """Bottom -> top of the same shape.  The bias has ``num_axes`` axes (-1: all) of the bottom from
    ``axis`` on, or those of the second bottom."""

    param_fields = ("bias_param",)
    bottom_count = (1, 2)
    graph_safe = True

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

    def channel_form(self, bottom: Shape, bias: Shape | None = None) -> ChannelForm | None:
        if bias is not None or not aligned_channels(self.blob_shapes[0], bottom, self.axis):
            return None
        return ChannelForm(shift=self.blob(0).detach().double().reshape(-1))

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        bias = onnx_operand(graph, step, self.blob(0) if self.blobs else None, self.axis)
        return [graph.add("Add", step.bottoms[0], bias)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return aligned_example(dice, "bias_param")
