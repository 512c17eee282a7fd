"""ReLU: max(x, 0) + negative_slope * min(x, 0)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _InPlaceLeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bottom: Tensor, slope: float) -> Tensor:
        top = functional.leaky_relu(bottom, slope)
        ctx.save_for_backward(top)
        ctx.slope = slope
        return top

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None]:
        (top,) = ctx.saved_tensors
        (top_diff,) = top_diffs
        return torch.where(top > 0, top_diff, top_diff * ctx.slope), None


@register("ReLU")
class ReLU(NeuronLayer):
    """At x = 0 the gradient is ``negative_slope``, as in PyTorch.  In place it is judged by the
    top's sign, which differs only for a negative slope."""

    param_fields = ("relu_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.negative_slope = float(self.param.relu_param.negative_slope)
        self.engine: str = self.param.relu_param.Engine.Name(self.param.relu_param.engine)
        self.in_place = is_in_place(self)

    def forward(self, bottom: Tensor) -> Tensor:
        if self.negative_slope == 0:
            return functional.relu(bottom)
        if self.negative_slope < 0 and self.in_place:
            top: Tensor = _InPlaceLeakyReLU.apply(bottom, self.negative_slope)
            return top
        return functional.leaky_relu(bottom, self.negative_slope)

    def deconvolved(self, bottom: Tensor, top_diff: Tensor, *, guided: bool) -> Tensor:
        positive = top_diff.clamp(min=0)
        return torch.where(bottom > 0, positive, 0) if guided else positive

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        return torch.where(bottom > 0, top_diff, top_diff * self.negative_slope)

    def channel_form(self, bottom: Shape) -> ChannelForm:
        if self.negative_slope == 0:
            return ChannelForm(floor=0.0)
        return ChannelForm(slopes=torch.tensor([self.negative_slope], dtype=torch.float64))

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.negative_slope == 0:
            return [graph.add("Relu", step.bottoms[0])]
        return [graph.add("LeakyRelu", step.bottoms[0], alpha=self.negative_slope)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example(f"relu_param {{ negative_slope: {dice.pick(0, 0.1)} }}", [dice.normal(*dice.shape())])
