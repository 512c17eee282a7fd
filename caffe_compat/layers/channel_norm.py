"""ChannelNorm: the length of the vector of channels at each place (FlowNet2)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# FlowNet2 adds this to the length that it divides by in the gradient.
_LENGTH_OFFSET = 1e-9


class _Length(torch.autograd.Function):
    """sqrt(sum over axis 1 of x^2), with FlowNet2's gradient: 0 where the length is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = x.square().sum(1, keepdim=True).sqrt()
        ctx.save_for_backward(x, length)
        return length

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> Tensor:
        x, length = ctx.saved_tensors
        gradient: Tensor = top_diffs[0] * x / (length + _LENGTH_OFFSET)
        return gradient


@register("ChannelNorm")
class ChannelNorm(Layer):
    """Bottom (N, C, H, W) -> top (N, 1, H, W)."""

    graph_safe = True
    keeps_forward = True

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W)")
        return [(bottom[0], 1, *bottom[2:])]

    def forward(self, bottom: Tensor) -> Tensor:
        length: Tensor = _Length.apply(bottom)
        return length

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("ReduceL2", step.bottoms[0], graph.sizes([1]))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example("", [dice.normal(*dice.image())])
