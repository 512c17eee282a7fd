"""Scale: multiply by a blob, learned or a second bottom, that is broadcast over the bottom."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
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
from caffe_compat.layers.shared.neuron import is_in_place
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Scale")
class Scale(Layer):
    """Bottom -> top of the same shape.  The scale has ``num_axes`` axes (-1: all) of the bottom from
    ``axis`` on, or those of the second bottom; with ``bias_term`` a learned bias of the same axes
    is added.  Without ``filler`` the scale starts at 1."""

    param_fields = ("scale_param",)
    bottom_count = (1, 2)
    graph_safe = True

    def setup(self, bottom: Shape, scale: Shape | None = None) -> None:
        param = self.param.scale_param
        self.axis = int(param.axis)
        self.keeps_forward = is_in_place(self)
        if scale is None:
            shape = aligned_shape(self, bottom, self.axis, param.num_axes, "scale_param")
            filler = param.filler if param.HasField("filler") else caffe_pb2.FillerParameter(type="constant", value=1)
            self.add_blob("weight", shape, lambda t: fill(t, filler))
        self.bias_term = bool(param.bias_term)
        if self.bias_term:
            num_axes = param.num_axes if scale is None else len(scale)
            shape = aligned_shape(self, bottom, self.axis, num_axes, "scale_param")
            self.add_blob("bias", shape, lambda t: fill(t, param.bias_filler))

    def infer_shapes(self, bottom: Shape, scale: Shape | None = None) -> list[Shape]:
        for blob in [*self.blob_shapes, *([] if scale is None else [scale])]:
            check_aligned(self, bottom, blob, self.axis, "scale_param")
        return [bottom]

    def replaces_diff(self, index: int, *bottom_shapes: Shape) -> bool:
        """The scale's, where no batch axis comes before it (or a batch of 1): Caffe sums straight into
        its gradient.  A single value is added to."""
        bottom = bottom_shapes[0]
        if index or len(bottom_shapes) > 1 or count(self.blob_shapes[0]) == 1 < count(bottom):
            return False
        return count(bottom, 0, self.axis % len(bottom) if bottom else 0) == 1

    def forward(self, bottom: Tensor, scale: Tensor | None = None) -> Tensor:
        top = bottom * align(self.blob(0) if scale is None else scale, bottom, self.axis)
        # The bias is the last blob, whether or not the scale is one too.
        return top + align(self.blob(-1), bottom, self.axis) if self.bias_term else top

    def channel_form(self, bottom: Shape, scale: Shape | None = None) -> ChannelForm | None:
        if scale is not None or not aligned_channels(self.blob_shapes[0], bottom, self.axis):
            return None
        numbers = [blob.detach().double().reshape(-1) for blob in self.blobs]
        return ChannelForm(numbers[0], numbers[1] if self.bias_term else None)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        scale = onnx_operand(graph, step, self.blob(0) if len(step.bottoms) == 1 else None, self.axis)
        top = graph.add("Mul", step.bottoms[0], scale)
        if self.bias_term:
            top = graph.add("Add", top, onnx_operand(graph, step, self.blob(-1), self.axis))
        return [top]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return aligned_example(dice, "scale_param", f"bias_term: {dice.switch()}")
