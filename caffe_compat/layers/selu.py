"""SeLu: scaled exponential linear units (Klambauer et al. 2017)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("SeLu")
class SeLu(NeuronLayer):
    """lambda x above 0, lambda alpha (exp(x) - 1) below.  The gradient is that of the formula in place, too, where the
    fork takes exp of the top."""

    param_fields = ("selu_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.selu_param
        self.scale, self.alpha = float(getattr(param, "lambda")), float(param.alpha)

    def forward(self, bottom: Tensor) -> Tensor:
        # not clamp, whose gradient at 0 is none
        below = self.alpha * torch.expm1(torch.where(bottom > 0, 0, bottom))
        return self.scale * torch.where(bottom > 0, bottom, below)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Selu", step.bottoms[0], alpha=self.alpha, gamma=self.scale)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"selu_param {{ lambda: {dice.number(0.5, 2)} alpha: {dice.number(0.5, 2)} }}"
        return Example(fields, [dice.normal(*dice.shape())])
