"""ReLU6: a ReLU that ends at 6 (MobileNet)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("ReLU6")
class ReLU6(NeuronLayer):
    """min(max(x, 0) + negative_slope * min(x, 0), 6); the gradient at x = 6 is 0, where PyTorch's is 1."""

    param_fields = ("relu6_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.negative_slope = float(self.param.relu6_param.negative_slope)
        if self.negative_slope < 0:
            self.fail(f"relu6_param.negative_slope is {self.negative_slope:g}; expected at least 0")

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.where(bottom >= 6, 6, functional.leaky_relu(bottom, self.negative_slope))

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        below = torch.where(bottom > 0, top_diff, top_diff * self.negative_slope)
        return torch.where(bottom >= 6, 0, below)

    def channel_form(self, bottom: Shape) -> ChannelForm:
        if self.negative_slope == 0:
            return ChannelForm(floor=0.0, ceiling=6.0)
        return ChannelForm(slopes=torch.tensor([self.negative_slope], dtype=torch.float64), ceiling=6.0)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.negative_slope == 0:
            return [graph.add("Clip", step.bottoms[0], graph.constant(0), graph.constant(6))]
        return [graph.add("Min", graph.add("LeakyRelu", step.bottoms[0], alpha=self.negative_slope), graph.constant(6))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"relu6_param {{ negative_slope: {dice.pick(0, 0.1)} }}"
        return Example(fields, [5 * dice.normal(*dice.shape())])
